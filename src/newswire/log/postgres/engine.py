"""The log in a PostgreSQL database, for hubs on many machines.

A group of batches is one call of a function, one transaction: it takes the log's advisory lock, gives the next offsets,
writes, and sends one notification. The lock is never held while an application does something, and what comes while
the database stores one group is the next group. docs/engines.md says what such a log can lose, and how to set it up.

This file is what the event loop sees. `schema` has what the database does, `outbox` what applications publish in their
own transactions, and `leader` the work that one of the processes does for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from newswire.log.engine import EngineLimits
from newswire.log.log import Log
from newswire.log.postgres.address import Address
from newswire.log.postgres.admin import PostgresAdmin
from newswire.log.postgres.leader import Leader
from newswire.log.postgres.link import PostgresLink, PostgresServer
from newswire.log.postgres.outbox import Outbox
from newswire.log.postgres.pages import PostgresPages
from newswire.log.postgres.retention import PostgresRetentionJob
from newswire.log.postgres.schema import Schema
from newswire.log.postgres.tail import PostgresTail
from newswire.log.postgres.transactions import DatabaseIdentity, PostgresTransactions
from newswire.log.postgres.writer import PostgresWriter
from newswire.log.remote import Part, TailedEngine
from newswire.log.retention import RetentionRules, Rules
from newswire.log.server import make_log
from newswire.validate import check_flags, check_greater_than_0, check_kind, is_number

_DROP = "SELECT * FROM @schema@.drop_events($1, $2, $3)"
_DROPPED = 1000  # events removed in one call: some milliseconds


class PostgresLog(Log):
    """A log in a PostgreSQL database (14 or newer, encoding UTF8).

    Args:
        url: `postgresql://user:password@host:5432/database`, with the options of libpq that asyncpg knows. Of several
            hosts, with commas between them, the one that can be written to counts.
        schema: the schema that the tables are in. It is made at first use, like the tables, if `create` is true.
        namespace: logs of different namespaces see nothing of each other: the schema's name is `SCHEMA_NAMESPACE`.
        retention: what to keep of each channel; enforced each second by one of the processes that share the log.
        timeout: seconds to wait for a connection or an answer. A batch whose answer was lost is tried again for three
            times as long.
        create: whether to make what is missing. Else `newswire log init` has to be run first.
        pooler: whether the URL leads to a proxy that pools transactions, such as PgBouncer.
        listen: another URL of the same database that leads past the proxy, for what needs a session of its own.
        poll: seconds between two looks at a log that can't be listened to: behind a pooler without `listen`, or if
            this is given.
        clock: what time it is, in seconds since the Unix epoch.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "newswire",
        namespace: str = "",
        retention: RetentionRules = None,
        timeout: float = 5.0,
        create: bool = True,
        pooler: bool = False,
        listen: str | None = None,
        poll: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        way = Way(url, timeout, create, pooler, listen, poll)
        super().__init__(PostgresEngine(way, (schema, namespace), retention, clock))


@dataclass(frozen=True, slots=True, repr=False)
class Way:
    """How to get to the database: arguments of `PostgresLog`."""

    url: str
    timeout: float
    create: bool
    pooler: bool
    listen: str | None
    poll: float | None

    def __post_init__(self) -> None:
        check_kind("a log's URL", self.url, str)
        if self.listen is not None:
            check_kind("listen", self.listen, str)
        if self.poll is not None and not (is_number(self.poll) and 0.001 <= self.poll <= 60):
            raise ValueError(f"poll is a number of seconds between 0.001 and 60, not {self.poll!r:.60}")
        check_greater_than_0("timeout", self.timeout)
        check_flags(self, "create", "pooler")


class PostgresEngine(TailedEngine):
    """The engine of a `PostgresLog`.

    Attributes:
        outbox: what applications publish in their own transactions.
    """

    _server: PostgresServer

    # One transaction: while the database stores it, the hub sends on what was in the one before. PostgreSQL's texts
    # have no NUL, and a message to it at most 1 GiB.
    limits: EngineLimits = EngineLimits(nul=False, batch_bytes=256 * 2**20, group_events=512)
    atomic = True

    def __init__(self, way: Way, names: tuple[str, str], retention: RetentionRules, clock: Callable[[], float]) -> None:
        self._way = way
        self._address = Address.parse(way.url)
        self._direct = Address.parse(way.listen) if way.listen else None
        self._schema = Schema(*names, self.limits)
        self._rules = Rules(retention)
        self._clock = clock
        self._place = DatabaseIdentity()
        super().__init__()

    def _begin(self) -> None:
        way = self._way
        server = self._server = PostgresServer(self._address, self._schema, way.timeout, way.pooler, way.create)
        silent = way.poll is not None or (way.pooler and self._direct is None)
        writes = PostgresLink(server)
        ears = None if silent else writes if self._direct is None else PostgresLink(server, self._direct)
        tail = self._tail = PostgresTail(server, PostgresLink(server), ears, way.poll or 0.05, writes)
        server.on_epoch = tail.restart
        links = [writes] if way.pooler else [writes, PostgresLink(server)]
        self._writer = PostgresWriter(server, links, self.limits, self._clock, tail.stored)
        self._link = PostgresLink(server)
        self._pages = PostgresPages(server, self._link)
        self._admin = PostgresAdmin(server, self._link, self._rules)
        self._retention = PostgresRetentionJob(server, self._link, self._rules, self._clock)
        self.outbox: Outbox = Outbox(server, self._link, self._clock, tail.look)
        self._leader = Leader(server, self._direct, self._rules, self._clock, self.outbox)

    def _parts(self) -> Sequence[Part]:
        return self._leader, self._writer, self._tail, self._link

    def _started(self) -> None:
        self._leader.start()

    @property
    def transactions(self) -> PostgresTransactions:
        """See `Engine.transactions`."""
        return PostgresTransactions(lambda: self.outbox, self._enter, self._place)

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """See `Engine.drop`."""
        self._enter()
        await self._link.settle()
        removed = 0
        for name, cut in cuts.items():
            more = True
            while more:
                [[count, more]] = await self._link.call(_DROP, name, min(cut, 2**63 - 1), _DROPPED)
                removed += count
        return removed

    # -- for operators

    async def init(self) -> str:
        """See `Engine.init`."""
        self._enter()
        return await make_log(self._server, self.span, "the tables of the log", f"in {self._server.name}")
