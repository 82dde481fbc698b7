"""`EventSource`: a stream of events that reconnects, resumes and backs off by itself, for code without an event loop.

    with EventSource("https://example.org/events") as source:
        for event in source:
            print(event.id, event.event, event.data)

This is the thin part, which applications use. It does the I/O that the protocol's `step` asks for, with blocking calls.
It never decides what comes next: that is the protocol's part. `AsyncEventSource` is its twin; `session` holds what both
share.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from newswire.client.cursor import Cursor
from newswire.client.options import Options
from newswire.client.protocol import Connect, Read, ReadError, ReadyState, Stop, Wait
from newswire.client.session import Headers, Session, Stats, Url, not_copied
from newswire.client.transports import pick
from newswire.client.transports.base import Connection, Transport
from newswire.client.typed import ContractReader, EventReader, Models, OnBad, TypedReader
from newswire.errors import Closed, SourceError
from newswire.redact import without_userinfo
from newswire.validate import options_or
from newswire.wire.event import Event
from newswire.wire.types import EventTypes, Unknown

if TYPE_CHECKING:
    import httpx
    import httpx2

T = TypeVar("T")

_LOOK_SECONDS: Final = 0.05  # how soon `open` sees that another thread has opened the stream


class EventSource:
    """An iterator over the events at a URL, until the server ends them.

    It connects when you ask for the first event, or call `open`. Whenever the stream ends or breaks, it connects again
    and sends the last event ID. The loop ends when the server says that the stream is over: by a 204, or by a
    `newswire.end` event. An error that another attempt can't cure is raised. `json` iterates over the decoded data.

    Args:
        url: `http://` or `https://`. Or a function without arguments that returns it, called before each attempt: for
            servers whose cursor is in the URL.
        method: None means GET, or POST if there is a body. A POST that the server may have taken is not sent again:
            the source goes on with GET (`Resume.idempotent` says how).
        headers: these replace our own of the same name. Or a function that returns them, called before each attempt:
            for tokens that expire.
        body: bytes are sent as they are, a str as UTF-8, anything else as JSON.
        last_event_id: where to begin. If it is empty, `cursor` decides, or else the server.
        cursor: keeps the last event ID over restarts of your program: the path of a file, or a `CursorStore`. Or a
            function, called with each ID: you store it, and give it as `last_event_id` next time.
        client: an `httpx2.Client` or `httpx.Client`, which you close yourself, or a `Transport`. None makes a client
            of our own, over HTTP/1.1.
        options: all other settings.

    Raises:
        ValueError: HTTP can't carry the address, the method or a header field, or JSON can't say the body.
        TypeError: an argument is of another kind.
        ImportError: you gave no client, and httpx2 is not installed.

    Iterating raises `BadStatus`, `WrongContentType`, `BadRedirect`, `CertificateRejected`, `ProxyRefused`,
    `NotResumable`, `TooManyAttempts`, `DecodeLimitExceeded`, and `EventsLost` if `Options.on_gap` is `raise`. Other
    network errors lead to another attempt, but with `Resume(reconnect=False)` they are raised. One thread iterates at a
    time, in the process that has opened the source, or `RuntimeError` is raised; any thread may call `close`.
    """

    _done = True  # nothing to clean up until all of it was made

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
        self.url = url
        self._options = options_or("options", options, Options)
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
        # The thread that does I/O holds it. If `close` can't get it, that thread cleans up.
        self._io = threading.Lock()
        self._reading = threading.Lock()  # the thread that iterates holds it while it waits for an event
        self._done = False

    # -- state

    def __reduce__(self) -> Any:
        """A source is no value that can be copied or sent.

        Raises:
            TypeError: always; it says what to do.
        """
        raise not_copied(self)

    def __repr__(self) -> str:
        return f"<EventSource {self._address()} {self.ready_state.name}>"

    def _address(self) -> str:
        """The URL as people may see it: without user and password."""
        return "of a function" if callable(self.url) else without_userinfo(self.url)

    @property
    def ready_state(self) -> ReadyState:
        """`CONNECTING`, `OPEN` or `CLOSED`."""
        return ReadyState.CLOSED if self._stop.is_set() else self._session.protocol.state

    @property
    def last_event_id(self) -> str:
        """The last event ID in force at the event that the loop got last; empty if there is none."""
        return self._session.last_event_id

    @property
    def stats(self) -> Stats:
        """Counts since the source was made."""
        return self._session.stats

    @property
    def end(self) -> Event | None:
        """The `newswire.end` or `newswire.goodbye` event that ended the last connection, or None."""
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
            if not self._read_on():
                raise StopIteration
        return event

    def _read_on(self) -> bool:
        """Does one step for the thread that reads. Returns whether another one may follow."""
        self._session.check_process()  # another thread of the parent's may hold the locks for ever
        if not self._reading.acquire(blocking=False):
            if not self._stop.is_set():
                raise RuntimeError(
                    "another thread reads from this EventSource now, so this one would miss what that gets: make a "
                    "source for each thread, or let one thread hand the events on"
                )
            return self._advance()
        try:
            return self._advance()
        finally:
            self._reading.release()

    def json(self, models: Models[T] | None = None, *, on_bad: OnBad = "raise") -> Iterator[T]:
        """Iterate over the events' data, decoded from JSON.

        Args:
            models: one type for all events: a dataclass, a pydantic model, or another type such as `list[int]`. Or a
                mapping from event types to such types; events of other types are left out. None takes any JSON.
            on_bad: `raise` an error if data doesn't fit, or `skip` the event and report it to `Hooks.bad_payload`, or
                else to the log. In both cases you can go on iterating with the next event.

        Raises:
            TypeError: JSON can't be read into a model. This is raised by the call itself.
            BadPayload: while iterating: the data doesn't fit, and `on_bad` is `raise`. All else that iterating the
                source raises is raised here too.
        """
        return _Values(self, TypedReader(models, on_bad, self._options.hooks.bad_payload))

    def typed(self, contract: EventTypes[T], *, unknown: Unknown | None = None, on_bad: OnBad = "raise") -> Iterator[T]:
        """Iterate over the events as a contract declares them: each is a `TypedEvent`, whose data is a value.

        Args:
            contract: a `newswire.contract.Contract`.
            unknown: what happens to an event that the contract does not know: `skip`, `raise` a `BadPayload` (for a
                gap, `EventsLost`), or a function that is called with it. None: what the contract says.
            on_bad: `raise` an error if data doesn't fit, or `skip` the event and report it to `Hooks.bad_payload`, or
                else to the log. In all cases you can go on iterating with the next event.

        Raises:
            TypeError, ValueError: `contract` is none, or `unknown` or `on_bad` is another text. This is raised by the
                call itself.
            BadPayload: while iterating. All else that iterating the source raises is raised here too.
        """
        return _Values(self, ContractReader(contract, unknown, on_bad, self._options.hooks.bad_payload))

    def open(self) -> None:
        """Connect now, if there is no connection. Returns when the stream is open or is known to be over.

        Raises:
            SourceError: as iterating does.
        """
        while self.ready_state is not ReadyState.OPEN and self._advance(until_open=True):
            pass

    def _advance(self, *, until_open: bool = False) -> bool:
        """Does one step. Returns whether another one may follow.

        Args:
            until_open: do none if another thread has opened the stream meanwhile.
        """
        self._session.check_process()
        # Another thread that reads an open stream may hold it for as long as nothing comes.
        while not self._io.acquire(timeout=_LOOK_SECONDS if until_open else -1):
            if self.ready_state is ReadyState.OPEN:
                return False
        try:
            if until_open and self.ready_state is ReadyState.OPEN:
                return False
            more = not self._stop.is_set() and self._do_step()
            if not more or self._stop.is_set():
                self._clean()
        finally:
            self._io.release()
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
        session.finish_step()
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
            pass  # the part that came is enough
        return body[:limit]

    # -- the cursor

    def _save(self) -> None:
        id = self._session.acknowledge()
        if id is not None and self._session.store is not None:
            if self._session.store.save(id) is not None:
                raise TypeError("EventSource can't await its cursor store: use AsyncEventSource, or a plain function")
            self._session.saved(id)

    # -- closing

    def close(self) -> None:
        """Stop, from any thread. Returns at once. Idempotent.

        A thread that is blocked in the loop leaves it. If it is just connecting to a machine that doesn't answer, that
        takes `Timeouts.connect` at most.
        """
        self._stop.set()
        if self._io.acquire(blocking=False):
            try:
                self._clean()
            finally:
                self._io.release()
        elif not self._session.is_foreign:
            self._transport.abort()  # the thread that holds the lock cleans up

    def _clean(self) -> None:
        self._drop()
        if not self._done and self._stop.is_set():
            self._done = True
            self._session.protocol.close()
            self._transport.close()
        if self._stop.is_set() and self._session.store is not None and not self._session.is_foreign:
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
    """The iterator that `json` and `typed` return. A generator would be over after the first error; this goes on."""

    def __init__(self, source: EventSource, reader: EventReader[T]) -> None:
        self._source = source
        self._reader = reader

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while (value := self._reader.read(next(self._source))) is TypedReader.NOTHING:
            pass
        return value
