"""The work that one of the processes that share a log does for all: it moves the outbox, and enforces retention.

The leader's session holds an advisory lock, so another process takes over as soon as the connection is gone; a leader
that stands still is disconnected by the server. The lock is for economy: two leaders at the same time would do no harm,
since each step is a transaction under the log's own locks. Behind a proxy that pools transactions no session can hold a
lock, and each process takes its turn under one that lasts for a transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from newswire.errors import LogUnavailable
from newswire.log.postgres.address import Address
from newswire.log.postgres.link import PostgresLink, PostgresServer
from newswire.log.postgres.outbox import Outbox, Sequencer
from newswire.log.postgres.retention import PostgresRetentionJob
from newswire.log.postgres.schema import array
from newswire.log.retention import Rules
from newswire.log.retry import Outage, Retry, end

logger: logging.Logger = logging.getLogger("newswire.log")

_LOCK: Final = "SELECT pg_try_advisory_lock($1)"
# Ends the sessions that hold one of these locks and whose clients have stopped in the middle of a statement, between
# its Parse and its Sync (PostgreSQL's message flow). Each message sets the time of the state again.
_END_STOPPED: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE state = 'active' AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - interval '5s'
        AND usename = current_user AND pid IN (
            SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
                AND (classid::bigint << 32 | objid::bigint) = ANY ($1::text::bigint[])
        )"""
_TRY_SECONDS: Final = 0.5  # how often the others try to become the leader …
_LOOK_SECONDS: Final = 2.0  # … and look whether there is one that stands still
_QUIET_SECONDS: Final = 0.02  # how often the outbox is looked at …
_BUSY_SECONDS: Final = 0.002  # … and how often in the second after something was there
_KEEP_SECONDS: Final = 1.0
# A leader that stands still, or is behind a network that is gone, loses its session, and with it the lock.
_SETTINGS: Final = {"idle_session_timeout": "5s", "statement_timeout": "30s"}


class Leader:
    """This process, as one that may be the leader.

    Args:
        direct: the way past a proxy, if there is one.
    """

    def __init__(
        self, server: PostgresServer, direct: Address | None, rules: Rules, clock: Callable[[], float], outbox: Outbox
    ) -> None:
        self._server = server
        self._outbox = outbox
        self._link = PostgresLink(server, direct, _SETTINGS)
        self._sequencer = Sequencer(outbox, self._link)
        self._retention = PostgresRetentionJob(server, self._link, rules, clock)
        self._locked = direct is not None or not server.pooled  # whether its session can hold a lock
        self._retry = Retry(0.1, 2.0)
        self._outage = Outage(f"the outbox and retention of {server.name} stand still", logger)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to try."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="newswire postgres leader")

    async def close(self) -> None:
        """End, and let another process take over."""
        task, self._task = self._task, None
        await end(task)
        await self._link.close()

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.sleep(_TRY_SECONDS / 10)  # a process that only publishes one event is gone by then
                await self._try()
            except LogUnavailable as error:
                if not self._server.away:  # else it was logged where the connection failed
                    self._outage.failed(error)
            except Exception as error:  # the outermost frame of a task: others depend on it
                self._outage.failed(error)
            await asyncio.sleep(max(self._server.wait(), self._retry.next()))

    async def _try(self) -> None:
        """Lead, as soon as no other process does, until the connection breaks."""
        loop = asyncio.get_running_loop()
        await self._link.enter()
        if self._locked:
            schema, look = self._server.schema, 0.0
            while not (await self._link.call(_LOCK, schema.lead))[0][0]:
                self._retry.reset()
                if loop.time() >= look:
                    look = loop.time() + _LOOK_SECONDS
                    await self._link.call(_END_STOPPED, array([schema.lead, schema.log, schema.keep]))
                await asyncio.sleep(_TRY_SECONDS)
        pid = self._link.pid
        self._sequencer.look_at_all()
        self._retention.look_again()
        busy = keep = 0.0
        while True:
            await self._link.settle()
            if await self._sequencer.step():
                busy = loop.time() + 1
            if loop.time() >= keep:
                keep = loop.time() + (_KEEP_SECONDS if not await self._retention.step() else 0)
            self._retry.reset()
            self._outage.ended()
            if self._link.pid != pid:
                return  # another connection: the lock is gone
            if await self._outbox.expected(_BUSY_SECONDS if loop.time() < busy else _QUIET_SECONDS):
                busy = loop.time() + 1
