"""How a group of batches is stored: one call of the function `append`, one transaction.

A call has an id. If its answer is lost it is sent again under the same id, and the function gives the outcome that it
had: so a batch is never there twice. A call that the server may have got and that can't be repaired in time has the
outcome `LogUncertain`; one that was never sent, `LogUnavailable`, at once.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import uuid
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Final

from newswire.errors import LogCorrupt, LogUnavailable, LogUncertain
from newswire.log.engine import Batch, Entry, Limits, Outcome, outcome_of
from newswire.log.group_commit import PATIENCE, GroupCommit, OnStored, Submitted, stale_batches
from newswire.log.postgres.link import Gone, Link, LinkLost, Server

APPEND: Final = "SELECT * FROM @schema@.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
_ATTEMPTS: Final = 100  # when the log begins one life after the other


class Writer(GroupCommit):
    """Stores batches.

    Args:
        link: its connection.
        on_stored: see `GroupCommit`.

    Attributes:
        link: the same.
    """

    def __init__(
        self, server: Server, link: Link, limits: Limits, clock: Callable[[], float], on_stored: OnStored
    ) -> None:
        super().__init__(limits, on_stored)
        self.link = link
        self._server = server
        self._clock = clock
        self._name = secrets.randbits(64) << 64
        self._number = itertools.count()

    @property
    def epoch(self) -> str:
        """See `GroupCommit.epoch`."""
        return self._server.epoch

    @property
    def away(self) -> LogUnavailable | None:
        """See `GroupCommit.away`."""
        return LogUnavailable(f"the server {self._server.name} can't be reached now") if self._server.away else None

    async def close(self) -> None:
        """Store what was submitted, then close the connection."""
        await super().close()
        await self.link.close()

    async def store(self, group: Sequence[Submitted]) -> tuple[Sequence[Outcome], str]:
        """See `GroupCommit.store`."""
        call = uuid.UUID(int=self._name | next(self._number))
        batches = [batch for some, _, _ in group for batch in some]
        server = self._server
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE * server.timeout
        sent = False
        for attempt in itertools.count():
            try:
                if not self.link.is_open:
                    self.tell()
                if not server.epoch:
                    await self.link.enter()
                arguments = self._encode(batches, stale_batches(group, server.lives))
                epoch = server.epoch
                try:
                    [answer] = await self.link.call(
                        APPEND, epoch, server.seen, call, sent, *arguments, on_sent=self.tell
                    )
                except Gone:
                    answer = None
                self.tell()
                if answer is not None and answer[0] == 0:
                    return self._done(batches, answer), epoch
                if attempt > _ATTEMPTS:
                    break
                await self.link.enter()
            except LogUnavailable as error:
                self.tell()
                sent = sent or isinstance(error, LinkLost)
                if not sent:
                    raise
                if not isinstance(error, LinkLost):  # the server is away
                    self.fail_queue(error)
                if loop.time() > deadline:
                    hint = "the batch may be stored: append it again under the same token, or look"
                    raise LogUncertain(f"{error}; {hint}") from None
                await asyncio.sleep(min(server.wait(), max(deadline - loop.time(), 0.001)))
        raise LogCorrupt(f"the log in {server.name} does not agree with itself: look at what else writes to its tables")

    def _encode(self, batches: Sequence[Batch], stale: set[int]) -> list[Any]:
        events = [pair for batch in batches for pair in batch.events]
        types: list[str | None] | None = None
        if any(event.event != "message" for _, event in events):
            types = [None if event.event == "message" else event.event for _, event in events]
        arguments: list[Any] = [
            int(self._clock() * 1e6),
            [channel for channel, _ in events],
            types,
            [event.data for _, event in events],
        ]
        if all(batch.condition is None and batch.token is None for batch in batches):
            return [*arguments, None, None, None, None]
        conditions = [batch.condition for batch in batches]
        return [
            *arguments,
            [len(batch.events) for batch in batches],
            [None if condition is None else condition.channel for condition in conditions],
            [
                0 if condition is None else -1 if index in stale else condition.newest
                for index, condition in enumerate(conditions)
            ],
            [batch.token for batch in batches],
        ]

    def _done(self, batches: Sequence[Batch], answer: Any) -> list[Outcome]:
        _, epoch, micros, before, outcomes = answer
        offsets = outcomes or list(accumulate((len(batch.events) for batch in batches[:-1]), initial=before + 1))
        self.last = asyncio.get_running_loop().time()
        stored = []
        latest = before
        for batch, offset in zip(batches, offsets, strict=True):
            if offset > latest:  # and not a token that was known
                stored.append((batch, offset))
                latest = offset + len(batch.events) - 1
        if stored and epoch == self._server.epoch:
            self._server.seen = max(self._server.seen, latest)

            def entries() -> list[Entry]:
                time = micros / 1e6
                return [
                    Entry(at, channel, event.event, event.data, time)
                    for batch, offset in stored
                    for at, (channel, event) in enumerate(batch.events, offset)
                ]

            self.stored(epoch, before, entries, latest)
        return [outcome_of(number) for number in offsets]
