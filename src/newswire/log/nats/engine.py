"""The log on a NATS server with JetStream, for hubs on many machines.

A log is a stream, whose sequence is the log's offset; a channel is a subject. docs/engines.md says what such a log can
lose, what its retention can't do, and how to set the server up.

This file is what the event loop sees; `stream` has which stream it is, and which life of the log goes on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from newswire.log.channels import Channels
from newswire.log.engine import EngineLimits, OnEntries
from newswire.log.log import Log
from newswire.log.nats.admin import NatsAdmin
from newswire.log.nats.drops import Drops
from newswire.log.nats.link import NatsLink
from newswire.log.nats.pages import NatsPages
from newswire.log.nats.stream import NatsStream
from newswire.log.nats.tail import NatsTail
from newswire.log.nats.writer import NatsWriter
from newswire.log.remote import PagedEngine, Part
from newswire.log.retention import KEEP_ALL, Retention, RetentionRules
from newswire.log.server import make_log
from newswire.validate import check_flag, check_greater_than_0, check_kind, is_whole

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_MAX_PAYLOAD: Final = 2**20  # a server's, unless it is set otherwise
_HEADERS: Final = 8 * 2**10  # bytes beside an event's data, at most
_BATCH: Final = 1000  # messages; a server takes no more


class NatsLog(Log):
    """A log on a NATS server with JetStream (2.12 or newer).

    Args:
        url: `nats://` or `tls://`, with user and password, or a token; several servers of a cluster with commas
            between them: `nats://user:password@one:4222,two:4222`.
        namespace: the name of the stream, and the beginning of its subjects: letters, digits, `-` and `_`.
        retention: what to keep of all channels together, also of internal ones: one `Retention`. A stream has no
            limits for each channel. It is given to the stream when this process first stores something.
        timeout: seconds to wait for a connection or an answer. A batch with a token whose answer was lost is sent again
            for three times as long.
        replicas: on how many servers of a cluster each event is stored: 1, 3 or 5.
        max_payload: the server's setting of this name, in bytes: an event is smaller by 8 KiB.
        creds: a file with a user's credentials (JWT and seed).
        ca: a file with the certificates of those whom to trust, for `tls://`.
        create: whether to make the stream if there is none. Else `newswire log init` has to be run first.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "newswire",
        retention: RetentionRules = None,
        timeout: float = 5.0,
        replicas: int = 1,
        max_payload: int = _MAX_PAYLOAD,
        creds: str | None = None,
        ca: str | None = None,
        create: bool = True,
    ) -> None:
        check_flag("create", create)
        server = _Server(url, namespace, timeout, creds, ca)
        server.create = create
        super().__init__(NatsEngine(server, one_rule(retention), replicas, max_payload))


class _Server:
    """Where a log is.

    Attributes:
        create: whether to make it there.
    """

    create = True

    def __init__(self, url: str, namespace: str, timeout: float, creds: str | None, ca: str | None) -> None:
        check_kind("a log's URL", url, str)
        check_kind("namespace", namespace, str)
        check_greater_than_0("timeout", timeout)
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError("a namespace has up to 100 letters, digits, '-' and '_'")
        self.namespace = namespace
        self._arguments = url, timeout, creds, ca
        self.link()  # what can't be used is refused here

    def link(self) -> NatsLink:
        """A connection, not made yet."""
        return NatsLink(*self._arguments)


class NatsEngine(PagedEngine):
    """The engine of a `NatsLog`."""

    def __init__(self, server: _Server, retention: Retention, replicas: int, max_payload: int) -> None:
        if not (is_whole(replicas) and 1 <= replicas <= 5):
            raise ValueError(f"replicas are 1 to 5, not {replicas!r:.60}")
        check_greater_than_0("max_payload", max_payload, whole=True)
        if max_payload < 2 * _HEADERS:
            raise ValueError(f"max_payload is at least {2 * _HEADERS} bytes, not {max_payload}")
        self.limits: EngineLimits = EngineLimits(
            event_bytes=max_payload - _HEADERS, batch_events=_BATCH, group_events=_BATCH, group_bytes=8 * 2**20
        )
        self._server = server
        self._retention = retention
        self._replicas = replicas
        super().__init__()

    def _begin(self) -> None:
        link = self._link = self._server.link()
        server = self._server
        stream = self._stream = NatsStream(link, server.namespace, self._retention, self._replicas, server.create)
        self._pages = NatsPages(stream)
        self._drops = Drops(stream, self._pages)
        self._admin = NatsAdmin(stream, self._pages)
        self._writer = NatsWriter(stream, self._pages, self.limits)

    def _parts(self) -> Sequence[Part]:
        return self._writer, self._link

    def __repr__(self) -> str:
        return str(self._stream)

    async def tail(self, after: int, epoch: str, on_entries: OnEntries, channels: Channels | None = None) -> None:
        """See `Engine.tail`."""
        self._enter()
        await NatsTail(self._stream, after, epoch, on_entries).run()

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """See `Engine.drop`."""
        self._enter()
        return await self._drops.drop(cuts)

    async def init(self) -> str:
        """See `Engine.init`."""
        self._enter()
        return await make_log(self._stream, self.span, "the stream of the log", f"on {self._stream}")

    async def trim(self) -> int:
        """See `Engine.trim`. The server removes by itself what its limits don't keep."""
        self._enter()
        await self._stream.ready()
        before = await self._stream.state()
        await self._stream.enforce()
        after = await self._stream.state()
        return max(before.messages + after.last - before.last - after.messages, 0)


def one_rule(rules: RetentionRules) -> Retention:
    """The retention of a stream, which has limits for all channels together.

    Raises:
        ValueError: there are rules for some channels.
    """
    if not rules:
        return KEEP_ALL
    if isinstance(rules, Retention):
        return rules
    if set(rules) == {">"}:
        return rules[">"]
    raise ValueError(
        "a NATS stream has limits for all channels together, and none for each pattern: give one Retention, or take "
        "a log on Valkey, PostgreSQL or SQLite"
    )
