"""Runs over HTTP: the response that streams one, and the one that says where it is.

What is decided before the head is sent: whether there is such a run for this owner (else 404, the same for none and for
somebody else's), whether there is anything left to read (else 204, which tells an EventSource to stop; a POST of
another API's client gets the whole answer again), and the place to start from. Then it is an `EventSourceResponse`
like any other.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote

from newswire.delivery.asgi import Receive, Scope, Send, raw_headers, send_answer
from newswire.delivery.framework import StarletteCompatible, as_http
from newswire.delivery.problem import problem_of
from newswire.delivery.request import last_event_id
from newswire.delivery.response import EventSourceResponse
from newswire.errors import Closed, LogUnavailable, RunNotFound, TrimmedAway
from newswire.hub.options import StreamOptions
from newswire.log.position import Position
from newswire.runs.dialects import dialect_for, dialect_named
from newswire.runs.reading.reader import Readers
from newswire.runs.store.record import Record
from newswire.wire.reserved import END


class RunResponse(StarletteCompatible):
    """Streams a run; made by `Runs.response`.

    Args:
        readers: reads the run.
        find: finds its record; raises `RunNotFound`.
        location: makes the URL of a run, for the answer to any method but GET.
        dialect: how to write it; None: the events as they are stored.
        status_code, headers: of the response.
        active: answer 204 where there is no run that goes on.
        stream: how the stream behaves.
    """

    def __init__(
        self,
        readers: Readers,
        find: Callable[[], Awaitable[Record]],
        location: Callable[[Scope, Record], str],
        *,
        dialect: str | None,
        status_code: int,
        headers: Mapping[str, str] | None,
        active: bool,
        stream: StreamOptions,
    ) -> None:
        super().__init__(status_code)
        self.raw_headers: list[tuple[bytes, bytes]] = raw_headers(headers)
        self._readers = readers
        self._find = find
        self._location = location
        self._dialect = dialect
        self._active = active
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope, receive, send = as_http(scope, receive, send)
        response = await self._decide(scope, receive, send)
        if response is not None:
            response.background = self.background
            await response(scope, receive, send)
        elif self.background is not None:
            await self.background()

    async def _decide(self, scope: Scope, receive: Receive, send: Send) -> EventSourceResponse | None:
        """The stream; None if the answer was another one."""
        try:
            record = await self._find()
        except (RunNotFound, LogUnavailable, Closed) as error:
            if self._active and isinstance(error, RunNotFound):
                await _nothing(send)
            else:
                await problem_of(error)(scope, receive, send)
            return None
        after = last_event_id(scope)
        stats = self._readers.store.stats
        if record.state == "ended" and (self._active or await self._has_all(after, record)):
            if self._active or scope["method"] in ("GET", "HEAD") or self._is_plain():
                stats.finished += 1
                await _nothing(send)
                return None
            after = None  # to its library the client is a new one, which takes no content for an empty answer
        dialect = None if self._dialect is None else dialect_for(self._dialect, record.head)
        stats.readers["resumed" if after else "new"] += 1
        reader = self._readers.read(record, after, dialect=dialect, fresh=True)
        headers = {} if self._dialect is None else dict(dialect_named(self._dialect).headers)
        if scope["method"] not in ("GET", "HEAD") and b"content-location" not in dict(self.raw_headers):
            headers["content-location"] = self._location(scope, record)
            if self.status_code in (201, 202):
                headers["location"] = headers["content-location"]
        response = EventSourceResponse(reader, status_code=self.status_code, headers=headers, options=self._stream)
        known = {name for name, _ in response.raw_headers} - {b"vary"}  # which may be there twice
        response.raw_headers += [pair for pair in self.raw_headers if pair[0] not in known]
        return response

    def _is_plain(self) -> bool:
        """Whether it is read by clients that take 204 for the end."""
        return self._dialect is None or dialect_named(self._dialect).plain

    async def _has_all(self, after: str | None, record: Record) -> bool:
        """Whether a cursor is at the end of an ended run."""
        if after is None:
            return False
        try:
            found = Position.parse(after)
        except ValueError:
            return False
        # What is past the end of the log is no cursor that we gave.
        resumed = self._readers.hub.lives.resume(found.epoch, found.offset)
        if resumed is None or resumed.lost or not record.begun < found.offset <= self._readers.hub.latest:
            return False
        if found.offset >= record.last_offset:
            return True
        if (
            record.end is None
            or record.end.reason != "done"
            or self._dialect is None
            or self._dialect != record.head.raw
        ):
            return False
        # A reader that gets an upstream's events as they came has the end from the last one, and nothing follows.
        try:
            async for piece in self._readers.store.pieces(record.id, found.offset):
                return piece.event == END
        except (LogUnavailable, TrimmedAway):
            pass
        return False


class RunAccepted(StarletteCompatible):
    """Says where a run can be read: `202`, `Location`, and JSON of `id` and `location`."""

    def __init__(self, record: Record, location: Callable[[Scope, Record], str]) -> None:
        super().__init__(202)
        self._record = record
        self._location = location

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope, _, send = as_http(scope, receive, send)
        location = self._location(scope, self._record)
        body = json.dumps({"id": self._record.id, "location": location}).encode()
        where = location.encode("latin-1")
        named = [(b"location", where), (b"content-location", where), (b"cache-control", b"no-store")]
        await send_answer(send, 202, [(b"content-type", b"application/json"), *named], body)


def location_of(path: str | None) -> Callable[[Scope, Record], str]:
    """Makes the URL of a run from `WorkerOptions.path`, or from where it was started."""

    def location(scope: Scope, record: Record) -> str:
        run_id = quote(record.id, safe="")
        if path is not None:
            return path.replace("{id}", run_id)
        return f"{quote(str(scope['path']).rstrip('/'), safe='/:@')}/{run_id}"

    return location


async def _nothing(send: Send) -> None:
    await send_answer(send, 204, [(b"cache-control", b"no-store")])
