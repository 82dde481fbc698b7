"""`AsyncEventSource`: a stream of events that reconnects, resumes and backs off by itself, in an event loop.

    async with AsyncEventSource("https://example.org/events") as source:
        async for event in source:
            print(event.id, event.event, event.data)

This is the thin part, which applications use. It does the I/O that the protocol's `step` asks for, with `await`.
It never decides what comes next: that is the protocol's part. `EventSource` is its twin; `session` holds what both
share.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from newswire.client.cursor import Cursor
from newswire.client.options import Options
from newswire.client.protocol import Connect, Read, ReadError, ReadyState, Stop, Wait
from newswire.client.request import Request
from newswire.client.session import Headers, Session, Stats, Url, not_copied
from newswire.client.transports import pick_async
from newswire.client.transports.base import AsyncConnection, AsyncTransport
from newswire.client.typed import ContractReader, EventReader, Models, OnBad, TypedReader
from newswire.deadline import Deadline
from newswire.errors import Closed, InactivityTimeout, SourceError
from newswire.redact import without_userinfo
from newswire.validate import options_or
from newswire.wire.event import Event
from newswire.wire.types import EventTypes, Unknown

if TYPE_CHECKING:
    import aiohttp
    import httpx
    import httpx2

T = TypeVar("T")


class AsyncEventSource:
    """An async iterator over the events at a URL, until the server ends them.

    It connects when you ask for the first event, or call `open`. Whenever the stream ends or breaks, it connects again
    and sends the last event ID. The loop ends when the server says that the stream is over: by a 204, or by a
    `newswire.end` event. An error that another attempt can't cure is raised.

    Args:
        url: `http://` or `https://`. A function is called before each attempt: for servers whose cursor is in the URL.
        method: None means GET, or POST if there is a body. A POST is not sent twice: see `Resume.idempotent`.
        headers: these replace our own of the same name. A function is called before each attempt: for tokens that
            expire.
        body: bytes are sent as they are, a str as UTF-8, anything else as JSON.
        last_event_id: where to begin. If it is empty, `cursor` decides, or else the server.
        cursor: keeps the last event ID over restarts. A path, a `CursorStore`, or a function (or coroutine function)
            that gets each ID.
        client: an `httpx2.AsyncClient`, `httpx.AsyncClient` or `aiohttp.ClientSession`, which you close yourself, or an
            `AsyncTransport`. None makes a client of our own, over HTTP/1.1.
        options: all other settings.

    Raises:
        ValueError: HTTP can't carry the address, the method or a header field, or JSON can't say the body.
        TypeError: an argument is of another kind.
        ImportError: you gave no client, and httpx2 is not installed.

    Iterating raises `BadStatus`, `WrongContentType`, `BadRedirect`, `CertificateRejected`, `ProxyRefused`,
    `NotResumable`, `TooManyAttempts`, `DecodeLimitExceeded`, and `EventsLost` if `Options.on_gap` is `raise`. Other
    network errors lead to another attempt, but with `Resume(reconnect=False)` they are raised. One task iterates at a
    time, in one event loop and one process, or `RuntimeError` is raised. If you cancel it while it waits, for example
    by `asyncio.wait_for(anext(source), 1)`, the connection stays and no event is lost.
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
        client: httpx2.AsyncClient | httpx.AsyncClient | aiohttp.ClientSession | AsyncTransport | None = None,
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
        self._transport = pick_async(client)
        self._connection: AsyncConnection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # The current step. It has its own task, so that it goes on when the task that waits for it is cancelled.
        self._work: asyncio.Task[bool] | None = None
        self._reading = False  # whether a task waits for the next event
        self._cleaning: asyncio.Task[None] | None = None
        self._stop = False
        self._done = False

    # -- state

    def __reduce__(self) -> Any:
        """A source is no value that can be copied or sent.

        Raises:
            TypeError: always; it says what to do.
        """
        raise not_copied(self)

    def __repr__(self) -> str:
        return f"<AsyncEventSource {self._address()} {self.ready_state.name}>"

    def _address(self) -> str:
        """The URL as people may see it: without user and password."""
        return "of a function" if callable(self.url) else without_userinfo(self.url)

    @property
    def ready_state(self) -> ReadyState:
        """`CONNECTING`, `OPEN` or `CLOSED`."""
        return ReadyState.CLOSED if self._stop else self._session.protocol.state

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

    def __aiter__(self) -> Self:
        if self._stop:
            raise Closed("the event source is closed: make a new one")
        return self

    async def __anext__(self) -> Event:
        if self._reading:
            raise RuntimeError(
                "another task reads from this AsyncEventSource now, so this one would miss what that gets: make a "
                "source for each task, or let one task hand the events on"
            )
        session = self._session
        self._reading = True
        try:
            if session.store is not None:
                await self._save()
            while (event := session.next_buffered()) is None:
                await self._save()
                if not await self._advance():
                    raise StopAsyncIteration
            return event
        finally:
            self._reading = False

    def json(self, models: Models[T] | None = None, *, on_bad: OnBad = "raise") -> AsyncIterator[T]:
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

    def typed(
        self, contract: EventTypes[T], *, unknown: Unknown | None = None, on_bad: OnBad = "raise"
    ) -> AsyncIterator[T]:
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

    async def open(self) -> None:
        """Connect now, if there is no connection. Returns when the stream is open or is known to be over.

        Raises:
            SourceError: as iterating does.
        """
        while self.ready_state is not ReadyState.OPEN and await self._advance():
            pass

    async def _advance(self) -> bool:
        """Does one step. Returns whether another one may follow."""
        if self._stop:
            await self._cleaned()
            await self._flush()  # the loop may have handled one more event since the source was closed
            return False
        if self._work is None:
            loop = asyncio.get_running_loop()
            if self._loop not in (None, loop):
                raise RuntimeError("this AsyncEventSource was opened in another event loop: make one in each")
            self._loop = loop
            self._work = self._loop.create_task(self._do_step(), name="newswire source")
        work = self._work
        await _done(work)
        if self._cleaning is not None:
            await self._cleaned()
            return False
        if self._work is work:  # another task, which calls `open`, may have begun the next
            self._work = None
        return work.result()

    async def _do_step(self) -> bool:
        session, timeouts = self._session, self._options.timeouts
        match session.next_step():
            case Connect(request):
                await self._drop()
                try:
                    self._connection = await self._open(request)
                except SourceError as error:
                    session.failure(error)
                else:
                    session.head(self._connection.head)
            case Read():
                assert self._connection is not None
                try:
                    data = await _within(timeouts.inactivity, self._connection.read())
                except SourceError as error:
                    session.failure(error)
                else:
                    session.data(data)
            case ReadError(limit):
                session.refusal(await self._read_error(limit))
            case Wait(until):
                await self._drop()
                await self._options.clock.sleep(session.remaining(until))
                session.protocol.woke()
            case Stop(error):
                await self._drop()
                if error is not None:
                    raise error
                return False
        session.finish_step()
        return True

    async def _open(self, request: Request) -> AsyncConnection:
        connect, response = self._options.timeouts.connect, self._options.timeouts.response
        limit = None if response is None else response + (connect or 0.0)
        return await _within(limit, self._transport.open(request, self._options.timeouts))

    async def _read_error(self, limit: int) -> bytes:
        assert self._connection is not None
        body = b""
        try:
            while len(body) < limit:
                data = await _within(self._options.timeouts.inactivity, self._connection.read())
                if not data:
                    break
                body += data
        except SourceError:
            pass  # the part that came is enough
        return body[:limit]

    # -- the cursor

    async def _save(self) -> None:
        id = self._session.acknowledge()
        if id is not None and self._session.store is not None:
            saving = self._session.store.save(id)
            if saving is not None:
                await saving
            self._session.saved(id)

    # -- closing

    def close(self) -> None:
        """Stop, from any thread or task. Returns at once. Idempotent.

        A task that waits in the loop leaves it. `aclose` also waits until everything is gone.
        """
        if self._loop is None:
            self._stop = True
            self._done = True  # nothing was ever opened
            return
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._kick()
        else:
            self._stop = True
            if self._loop.is_closed():
                self._done = True  # all that was open has gone with it
            else:
                self._loop.call_soon_threadsafe(self._kick)

    async def aclose(self) -> None:
        """Stop, and wait until no task and no socket is left. Idempotent."""
        self._loop = asyncio.get_running_loop()
        self.close()
        await self._cleaned()

    def _kick(self) -> None:
        self._stop = True
        if self._cleaning is None:
            assert self._loop is not None
            self._cleaning = self._loop.create_task(self._clean(), name="newswire source, closing")

    async def _cleaned(self) -> None:
        self._kick()
        assert self._cleaning is not None
        await asyncio.shield(self._cleaning)

    async def _clean(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait((self._work,))
            if not self._work.cancelled():
                self._work.exception()  # marks it as seen, or asyncio would log it
            self._work = None
        self._done = True
        self._session.protocol.close()
        try:
            await self._drop()
            await self._transport.close()
        finally:
            await self._flush()

    async def _flush(self) -> None:
        flushing = self._session.store.flush() if self._session.store is not None else None
        if flushing is not None:
            await flushing

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self._save()
        finally:
            await self.aclose()

    def __del__(self) -> None:
        if not self._done:
            warnings.warn(
                f"an AsyncEventSource of {self._address()} was not closed", ResourceWarning, stacklevel=2, source=self
            )


class _Values(Generic[T]):
    """What `json` and `typed` return. A generator would be over after the first error; this goes on."""

    def __init__(self, source: AsyncEventSource, reader: EventReader[T]) -> None:
        self._source = source
        self._reader = reader

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while (value := self._reader.read(await anext(self._source))) is TypedReader.NOTHING:
            pass
        return value


async def _done(task: asyncio.Task[Any]) -> None:
    """Waits until a task is done, without its result; cancelling the wait leaves the task alone."""
    if task.done():
        return
    waiter = asyncio.get_running_loop().create_future()  # `asyncio.wait` does the same for three times the CPU

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    task.add_done_callback(wake)
    await waiter


async def _within(seconds: float | None, work: Awaitable[T]) -> T:
    try:
        async with Deadline(seconds):
            return await work
    except TimeoutError:
        raise InactivityTimeout(seconds or 0.0) from None
