"""`EventSource`: a stream of events that reconnects, resumes and backs off by itself, for code without an event loop.

    with EventSource("https://example.org/events") as source:
        for event in source:
            print(event.id, event.event, event.data)

The thin part: it does what the protocol's `step` says, with blocking calls. `AsyncEventSource` is its twin; what they
share is in `session`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from newswire.client.cursor import Cursor
from newswire.client.options import Options
from newswire.client.protocol import Connect, Read, ReadError, ReadyState, Stop, Wait
from newswire.client.session import Headers, Session, Stats, Url
from newswire.client.transports import pick
from newswire.client.transports.base import Connection, Transport
from newswire.client.typed import Models, OnBad, Reader
from newswire.errors import Closed, SourceError
from newswire.redact import without_userinfo
from newswire.wire.event import Event

if TYPE_CHECKING:
    import httpx
    import httpx2

T = TypeVar("T")


class EventSource:
    """An iterator over the events at a URL, as long as there are any.

    Nothing is sent before the first event is asked for (or `open`). Then it connects, and connects again whenever the
    stream ends or breaks, with the last event ID, until the server says that it is over (204, or `newswire.end`), which
    ends the loop; or an error that trying again won't cure, which is raised.

    Args:
        url: `http://` or `https://`. A function is called before each attempt: for servers whose cursor is in the URL.
        method: None: GET, or POST if there is a body. A POST is not sent twice: see `Resume.idempotent`.
        headers: they replace ours of the same name. A function is called before each attempt: for tokens that expire.
        body: bytes as they are, str as UTF-8, anything else as JSON.
        last_event_id: where to begin; empty: where the server wants, or where `cursor` says.
        cursor: keeps the last event ID over restarts: a path, a `CursorStore`, or a function to call with each ID.
        client: an `httpx2.Client` or `httpx.Client`, which stays the caller's to close, or a `Transport`. None: one of
            our own, over HTTP/1.1.
        options: everything else.

    Raises:
        ValueError: an address, a method or a header field that HTTP can't carry.
        ImportError: no client is given and httpx2 is not installed.

    Iterating raises `BadStatus`, `WrongContentType`, `BadRedirect`, `NotResumable`, `TooManyAttempts`,
    `DecodeLimitExceeded`, and `EventsLost` if asked for; network errors are tried again. One thread iterates; any
    thread may call `close`.
    """

    def __init__(
        self,
        url: Url,
        *,
        method: str | None = None,
        headers: Headers | None = None,
        body: Any = None,
        last_event_id: str = "",
        cursor: Cursor | None = None,
        client: httpx2.Client | httpx.Client | Transport | None = None,
        options: Options | None = None,
    ) -> None:
        self._done = True  # nothing to clean up if the next lines raise
        self.url = url
        self._options = options or Options()
        self._session = Session(
            url,
            method=method,
            headers=headers,
            body=body,
            last_event_id=last_event_id,
            cursor=cursor,
            options=self._options,
        )
        self._transport = pick(client)
        self._connection: Connection | None = None
        self._stop = threading.Event()
        # Held by whoever does I/O; a `close` that can't have it leaves the cleaning to the one who holds it.
        self._io = threading.Lock()
        self._done = False

    # -- what it is

    def __repr__(self) -> str:
        return f"<EventSource {self._address()} {self.ready_state.name}>"

    def _address(self) -> str:
        """The URL, for people: without user and password."""
        return "of a function" if callable(self.url) else without_userinfo(self.url)

    @property
    def ready_state(self) -> ReadyState:
        """`CONNECTING`, `OPEN` or `CLOSED`."""
        return ReadyState.CLOSED if self._stop.is_set() else self._session.protocol.state

    @property
    def last_event_id(self) -> str:
        """The last event ID in force at the event that was given last; empty if there is none."""
        return self._session.last_event_id

    @property
    def stats(self) -> Stats:
        """Counts since the source was made."""
        return self._session.stats

    @property
    def end(self) -> Event | None:
        """The `newswire.end` or `newswire.goodbye` event that ended the last connection, if one did."""
        return self._session.protocol.control

    # -- iterating

    def __iter__(self) -> Self:
        if self._stop.is_set():
            raise Closed("the event source is closed: make a new one")
        return self

    def __next__(self) -> Event:
        session = self._session
        if session.store is not None:
            self._save()
        while (event := session.next_buffered()) is None:
            self._save()
            if not self._advance():
                raise StopIteration
        return event

    def json(self, models: Models[T] | None = None, *, on_bad: OnBad = "raise") -> Iterator[T]:
        """Iterate over the events' data, decoded from JSON.

        Args:
            models: a dataclass, TypedDict, pydantic model or other type that all events have; or a mapping from event
                types to such, and other events are left out. None: whatever JSON says.
            on_bad: `raise` what doesn't fit; or `skip` it, telling `Hooks.bad_payload` or else the log. Iterating goes
                on behind it in either case.

        Raises:
            TypeError: at once: a model is nothing that JSON can be read into.
            BadPayload: iterating, the data doesn't fit, and `on_bad` is `raise`; else as iterating the source does.
        """
        return _Values(self, Reader(models, on_bad, self._options.hooks.bad_payload))

    def open(self) -> None:
        """Connect now, if there is no connection: returns when the stream is open, or known to be over.

        Raises:
            SourceError: as iterating does.
        """
        while self.ready_state is not ReadyState.OPEN and self._advance():
            pass

    def _advance(self) -> bool:
        """Do one step. Returns whether there may be more."""
        with self._io:
            more = not self._stop.is_set() and self._do_step()
            if not more or self._stop.is_set():
                self._clean()
        return more

    def _do_step(self) -> bool:
        session = self._session
        match session.next_step():
            case Connect(request):
                self._drop()
                try:
                    self._connection = self._transport.open(request, self._options.timeouts)
                except SourceError as error:
                    self._fail(error)
                else:
                    session.head(self._connection.head)
            case Read():
                assert self._connection is not None
                try:
                    data = self._connection.read()
                except SourceError as error:
                    self._fail(error)
                else:
                    if not self._stop.is_set():
                        session.data(data)
            case ReadError(limit):
                session.refusal(self._read_error(limit))
            case Wait(until):
                self._drop()
                self._options.clock.wait(session.remaining(until), self._stop)
                session.protocol.woke()
            case Stop(error):
                self._drop()
                if error is not None:
                    raise error
                return False
        return True

    def _fail(self, error: SourceError) -> None:
        if not self._stop.is_set():
            self._session.failure(error)

    def _read_error(self, limit: int) -> bytes:
        assert self._connection is not None
        body = b""
        try:
            while len(body) < limit and (data := self._connection.read()):
                body += data
        except SourceError:
            pass  # what there is of it will do
        return body[:limit]

    # -- the cursor

    def _save(self) -> None:
        id = self._session.acknowledge()
        if id is not None and self._session.store is not None and self._session.store.save(id) is not None:
            raise TypeError("EventSource can't await its cursor store: use AsyncEventSource, or a plain function")

    # -- closing

    def close(self) -> None:
        """Stop, from any thread: returns at once. A thread that is blocked in the loop leaves it, unless it is just
        being connected to a machine that doesn't answer: then after `Timeouts.connect` at most. Idempotent."""
        self._stop.set()
        if self._io.acquire(blocking=False):
            try:
                self._clean()
            finally:
                self._io.release()
        else:
            self._transport.abort()  # and the thread that is in there cleans up

    def _clean(self) -> None:
        self._drop()
        if not self._done and self._stop.is_set():
            self._done = True
            self._session.protocol.close()
            self._transport.close()
        if self._stop.is_set() and self._session.store is not None:
            self._session.store.flush()  # the loop may have handled one more event since the source was closed

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._save()
        finally:
            self.close()

    def __del__(self) -> None:
        if not self._done:
            text = f"an EventSource of {self._address()} was not closed"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)


class _Values(Generic[T]):
    """The iterator that `json` returns. No generator: it outlives what it raises."""

    def __init__(self, source: EventSource, reader: Reader[T]) -> None:
        self._source = source
        self._reader = reader

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while (value := self._reader.read(next(self._source))) is Reader.NOTHING:
            pass
        return value
