"""The origin's end of edges: other newswire servers that have this one as their log. `newswire.edge` is their end.

With the edge key (`--edge-key`) an edge has the whole log: internal channels, so that runs work there, and removing.
Without it, it has what its credential has: `read` and `subscribe` for all channels, `publish` for those that it
publishes to.

An edge's stream has what came together as one event, made once for all edges that keep up.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import Route

from newswire.delivery.bodies import Bodies
from newswire.delivery.problem import Problem
from newswire.delivery.request import last_event_id
from newswire.delivery.response import EventSourceResponse
from newswire.errors import Closed, EpochChanged, InvalidChannel, InvalidEvent, LimitExceeded, LogError, TrimmedAway
from newswire.hub.options import StreamOptions
from newswire.hub.publisher import may_use
from newswire.log import form
from newswire.log.channels import Channels, Pattern, is_internal
from newswire.log.engine import PAGE_BYTES, Batch, Entry, OnDone, Outcome
from newswire.log.log import Log
from newswire.log.position import MAX_OFFSET, Position
from newswire.server.auth import Denied
from newswire.server.auth.access import Access, Action
from newswire.server.service import Service
from newswire.serving.answers import JsonAnswer
from newswire.wire.event import Event
from newswire.wire.payload import read_json, to_event

_ALL: Final = ">"
_BODY: Final = 16 * 2**20  # of a request with the edge key
_MOST: Final = 4096  # events of a page
_NAMES: Final = 1000  # channels whose newest events are one answer, …
_AT_ONCE: Final = 8  # … read so many at a time, until they are as large as a page
_QUEUED: Final = 8192  # entries that a slow edge has in memory; then it reads on when it has taken them
_JOINED: Final = 1000  # entries in one event of the stream, or …
_JOINED_BYTES: Final = 4 * 2**20  # … bytes of their data


class OriginService:
    """What this process does for edges."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._bodies: tuple[Bodies, Bodies] | None = None  # the service's, and those made for edges beside them
        self._encoded: tuple[Sequence[Entry], Event] | None = None  # what came last, for all edges
        self._calls: Mapping[str, Callable[[_Call], Awaitable[Any]]] = {
            "span": self._span,
            "read": self._read,
            "newest": self._newest,
            "append": self._append,
            "drop": self._drop,
            "trim": self._trim,
            "scan": self._scan,
            "losses": self._losses,
            "info": self._info,
        }

    def routes(self) -> list[Route]:
        """The routes for edges."""
        return [Route("/log/tail", self.tail), Route("/log/{call}", self.call, methods=["POST"])]

    # -- who may

    def _is_whole(self, request: Request) -> bool:
        """Whether a request has the edge key.

        Raises:
            Denied: it has another one, and this server knows no other credentials.
        """
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = self._service.settings.edge_key
        if key is None or scheme.lower() != "bearer":
            return False
        if hmac.compare_digest(given.strip().encode("utf-8", "replace"), key.encode()):
            return True
        if not self._service.settings.authenticates:
            raise Denied("this is not the edge key of this server", authenticate="Bearer")
        return False

    async def allow(self, request: Request, action: Action, channels: Sequence[str]) -> Access | None:
        """See that a request without the edge key may do that. Returns whose it is, if that is known.

        Raises:
            Denied: it may not.
        """
        hidden = next((channel for channel in channels if is_internal(channel)), None)
        if hidden is not None:
            raise Denied(f"channel {hidden[:100]!r} is internal: an edge needs the edge key for it")
        return await self._service.allow(request, action, *channels)

    # -- calls

    async def call(self, request: Request) -> JsonAnswer:
        """`POST /log/{call}`: one method of the engine."""
        name = request.path_params["call"]
        method = self._calls.get(name)
        if method is None:
            raise Problem(404, "not_found", f"there is no call {name[:40]!r} for edges")
        whole = self._is_whole(request)
        body = await self._bodies_for(whole).read(request.receive, request.headers.get("content-length"))
        try:
            asked = read_json(body.decode())
            return JsonAnswer(await method(_Call(request, whole, asked if isinstance(asked, dict) else {})))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, InvalidChannel):
                raise
            raise Problem(400, "invalid_call", f"this is no call of an edge: {error!r:.200}") from None

    def _bodies_for(self, whole: bool) -> Bodies:
        if not whole:
            return self._service.bodies
        bodies = self._service.bodies
        if self._bodies is None or self._bodies[0] is not bodies:  # their limits have changed
            settings = self._service.settings
            self._bodies = bodies, Bodies(settings.body_timeout, max(_BODY, settings.max_body))
        return self._bodies[1]

    @property
    def _log(self) -> Log:
        return self._service.hub.log

    async def _span(self, call: _Call) -> Any:
        if not call.whole:
            await self.allow(call.request, "read", [_ALL])
        return form.of_span(await self._log.span())

    async def _read(self, call: _Call) -> Any:
        channels = form.to_channels(call.asked["channels"])
        if not call.whole:
            await self.allow(call.request, "read", [*channels.names, *channels.patterns])
        limit = min(max(int(call.asked["limit"]), 1), _MOST)
        return form.of_page(await self._log.read(channels, _offset(call.asked["after"]), limit))

    async def _newest(self, call: _Call) -> Any:
        channels = [str(channel) for channel in call.asked["channels"]][:_NAMES]
        if not call.whole:
            await self.allow(call.request, "read", channels)
        rows: list[Any] = []
        size = 0
        while len(rows) < len(channels) and size <= PAGE_BYTES:  # the edge asks again for the others
            found = await self._log.newest(channels[len(rows) : len(rows) + _AT_ONCE])
            rows += [entry and list(entry) for entry in found]
            size += sum(len(entry.data) for entry in found if entry is not None)
        return {"entries": rows}

    async def _append(self, call: _Call) -> Any:
        asked = call.asked["batches"]
        outcomes: list[Outcome] = [None] * len(asked)
        publisher: str | None = None
        batches: dict[int, Batch] = {}
        for index, each in enumerate(asked):
            try:
                batch = form.to_batch(each)
                if not batch.events:  # engines never see such a batch, and it would need no credential
                    raise InvalidEvent("events", "a batch has at least one event")
                if not call.whole:
                    most = self._service.settings.max_batch
                    if len(batch.events) > most:
                        raise LimitExceeded("the number of events in a batch", limit=most, actual=len(batch.events))
                    batch.events = self._as_published(batch)
                    if batch.token is not None and not may_use(batch.token, batch.events[0][0]):
                        raise InvalidEvent("token", "it is one of another channel: an edge needs the edge key for it")
                self._log.check(batch.events)
                batches[index] = batch
            except (InvalidEvent, InvalidChannel, LimitExceeded) as error:
                outcomes[index] = LogError(f"the origin refuses it: {error}")
        if not call.whole:
            channels = {channel for batch in batches.values() for channel, _ in batch.events}
            channels |= {batch.condition.channel for batch in batches.values() if batch.condition is not None}
            access = await self.allow(call.request, "publish", sorted(channels))
            publisher = self._service.publisher(call.request.scope, access)
        for batch in batches.values():
            if batch.condition is not None and not batch.condition.epoch:
                batch.condition = batch.condition._replace(epoch=str(call.asked["epoch"]))
        epoch = ""
        if batches:
            found, epoch = await _submit(self._log, list(batches.values()))
            for index, outcome in zip(batches, found, strict=True):
                outcomes[index] = outcome
        if publisher is not None and self._service.rates is not None:
            self._service.rates.took(publisher, sum(len(batch.sizes) for batch in batches.values()))
        return {"outcomes": [form.of_outcome(each) for each in outcomes], "epoch": epoch}

    def _as_published(self, batch: Batch) -> list[tuple[str, Event]]:
        """The events of an edge without the edge key, as any client's: no reserved types, and by the contract."""
        contracts = self._service.hub.contracts
        if contracts is None:
            return [(channel, to_event(event)) for channel, event in batch.events]
        return [(channel, contracts.encode(channel, event, None)) for channel, event in batch.events]

    async def _drop(self, call: _Call) -> Any:
        call.need_key()
        cuts = {str(channel): _offset(offset) for channel, offset in call.asked["cuts"].items()}
        return {"removed": await self._log.drop(cuts)}

    async def _trim(self, call: _Call) -> Any:
        call.need_key()
        return {"removed": await self._log.trim()}

    async def _scan(self, call: _Call) -> Any:
        call.need_key()
        limit = min(max(int(call.asked["limit"]), 1), _MOST)
        return form.of_page(await self._log.scan(_offset(call.asked["after"]), limit))

    async def _losses(self, call: _Call) -> Any:
        call.need_key()
        return form.of_losses(await self._log.losses())

    async def _info(self, call: _Call) -> Any:
        if not call.whole:
            await self.allow(call.request, "observe", [])
        return form.of_info(await self._log.info())

    # -- the stream

    async def tail(self, request: Request) -> EventSourceResponse:
        """`GET /log/tail`: everything after `Last-Event-ID`, as it comes."""
        service = self._service
        whole = self._is_whole(request)
        access = None if whole else await self.allow(request, "subscribe", [_ALL])
        position = Position.parse(last_event_id(request) or "")
        edge = _Edge(service, access, request)
        if request.method != "HEAD":
            edge.check()
        ends = None if access is None or access.expires is None else max(access.expires - time.time(), 0.1)
        settings = service.settings
        options = StreamOptions(heartbeat=settings.heartbeat, retry=1000, max_age=ends, compress=settings.compress)
        return EventSourceResponse(self._counted(edge, position, whole), options=options)

    async def _counted(self, edge: _Edge, after: Position, whole: bool) -> AsyncIterator[Event]:
        """The stream of one edge, which counts as one, and ends when its credential is revoked."""
        try:
            edge.begin()
            async for event in self._events(edge, after, whole):
                yield event
        except Problem:
            return  # the edge comes back, and gets it as an answer
        finally:
            edge.end()

    async def _events(self, edge: _Edge, after: Position, whole: bool) -> AsyncIterator[Event]:
        epoch, at = after.epoch, after.offset
        while not edge.over:
            following = _Following(self._log, at, epoch, None if whole else Channels([Pattern(_ALL)]))
            edge.following = following
            try:
                async for entries in following.parts():
                    at = entries[-1].offset
                    shown = entries if whole else [entry for entry in entries if not is_internal(entry.channel)]
                    if shown:
                        yield self._encode(shown, epoch)
            except EpochChanged as error:
                yield Event(error.epoch, form.EPOCH)
                return
            except TrimmedAway as error:
                yield Event(str(error.through), form.TRIMMED)
                return
            except (LogError, Closed):
                return  # the edge comes back
            finally:
                await following.end()

    def _encode(self, entries: Sequence[Entry], epoch: str) -> Event:
        encoded = self._encoded
        if encoded is None or encoded[0] is not entries:
            data = json.dumps(form.rows_of(entries), ensure_ascii=False, separators=(",", ":"))
            encoded = self._encoded = entries, Event(data, form.ENTRIES, Position(epoch, entries[-1].offset))
        return encoded[1]


class _Call:
    """One call of an edge."""

    def __init__(self, request: Request, whole: bool, asked: Mapping[str, Any]) -> None:
        self.request = request
        self.whole = whole
        self.asked = asked

    def need_key(self) -> None:
        """See that the edge has the edge key."""
        if not self.whole:
            raise Denied("this needs the edge key: start the origin with --edge-key, and give it to the edge")


class _Edge:
    """The stream of an edge, as `OpenStreams` knows streams: to count it, and to end it.

    Args:
        service: this process's.
        access: whose it is.
        request: the request.

    Attributes:
        following: what it follows the log by now.
        over: it ends.
    """

    def __init__(self, service: Service, access: Access | None, request: Request) -> None:
        self.following: _Following | None = None
        self.over = False
        self._service = service
        self._access = access
        self._address = service.streams_open.address_of(request.scope.get("client"))
        self._on_end: list[Callable[[], object]] = []

    def check(self) -> None:
        """Check that there may be one more.

        Raises:
            Denied: the credential was revoked meanwhile.
            Problem: there are as many as there may be.
        """
        self._service.check_room()
        if self._service.auth is not None and self._access is not None:
            self._service.auth.check_revoked(self._access)
        self._service.streams_open.check(self._access, self._address)

    def begin(self) -> None:
        """It is open.

        Raises:
            Problem: others have come meanwhile, or its credential was revoked.
        """
        self._service.counting += 1
        if self._service.auth is not None and self._access is not None:
            self._service.auth.check_revoked(self._access)
        self._service.streams_open.follow(self, self._access, self._address)

    def end(self) -> None:
        """It is closed."""
        self._service.counting -= 1
        for call in self._on_end:
            call()

    # -- as a subscription

    def expire_after(self, seconds: float) -> None:
        """Its response ends then by itself."""

    def on_end(self, call: Callable[[], object]) -> None:
        """Have it called in the end."""
        self._on_end.append(call)

    def goodbye(self, reason: str | None = None) -> None:
        """End it: the edge comes back, and learns why if it may not."""
        self.over = True
        if self.following is not None:
            self.following.stop()


class _TooSlow(Exception):
    """An edge has enough to do."""


class _Following:
    """A tail of the log for one edge. An edge that is slow has a bounded part of it in memory."""

    def __init__(self, log: Log, after: int, epoch: str, channels: Channels | None) -> None:
        self._queue: deque[Sequence[Entry]] = deque()
        self._queued = 0
        self._news = asyncio.Event()
        self._task = asyncio.create_task(log.tail(after, epoch, self._take, channels), name="newswire edge's tail")
        self._task.add_done_callback(lambda _: self._news.set())

    def _take(self, entries: Sequence[Entry], last: bool) -> None:
        if self._queued > _QUEUED:
            raise _TooSlow
        self._queue.append(entries)
        self._queued += len(entries)
        self._news.set()

    async def parts(self) -> AsyncIterator[Sequence[Entry]]:
        """What comes, in parts that are not too large; what is ready comes together. Ends for a slow edge: go on."""
        queue = self._queue
        while True:
            while queue:
                part = queue.popleft()
                while queue and len(part) + len(queue[0]) <= _JOINED and _size(part) < _JOINED_BYTES:
                    part = [*part, *queue.popleft()]
                self._queued -= len(part)
                for piece in _pieces(part):
                    yield piece
            if self._task.done():
                break
            self._news.clear()
            await self._news.wait()
        if self._task.cancelled():
            raise Closed("it was stopped")
        try:
            self._task.result()
        except _TooSlow:
            return
        raise Closed("the log is closed")

    def stop(self) -> None:
        """End the parts, with `Closed`."""
        self._queue.clear()
        self._task.cancel()

    async def end(self) -> None:
        """Follow no more."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()


def _offset(value: Any) -> int:
    """An offset.

    Raises:
        ValueError, TypeError: it can't be one.
    """
    offset = int(value)
    if not -1 <= offset <= MAX_OFFSET:
        raise ValueError(f"{value!r:.40} is no offset")
    return offset


def _size(entries: Sequence[Entry]) -> int:
    return sum(len(entry.data) for entry in entries)


def _pieces(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    if len(entries) <= _JOINED and _size(entries) <= _JOINED_BYTES:
        return [entries]
    pieces: list[Sequence[Entry]] = []
    begin = size = 0
    for index, entry in enumerate(entries):
        size += len(entry.data)
        if index > begin and (index - begin >= _JOINED or size > _JOINED_BYTES):
            pieces.append(entries[begin:index])
            begin, size = index, len(entry.data)
    return [*pieces, entries[begin:]]


async def _submit(log: Log, batches: Sequence[Batch]) -> tuple[Sequence[Outcome], str]:
    """Store batches, and wait for the outcomes."""
    done: asyncio.Future[tuple[Sequence[Outcome], str]] = asyncio.get_running_loop().create_future()

    def on_done(outcomes: Sequence[Outcome], epoch: str) -> None:
        if not done.done():
            done.set_result((outcomes, epoch))

    call: OnDone = on_done
    log.submit(batches, call)
    return await done
