"""Events of a response that you already have, from httpx2, httpx, requests, urllib3 or aiohttp.

Applications call these functions with one response, and read it to its end. Nothing here connects, reconnects or keeps
a cursor: `EventSource` does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from inspect import isasyncgen
from typing import Any

from newswire.client.options import Limits
from newswire.validate import options_or, shown
from newswire.wire.decoder import Decoder
from newswire.wire.event import Event
from newswire.wire.gzip import Inflater

_READ = 65536


def iter_events(response: Any, *, limits: Limits | None = None) -> Iterator[Event]:
    """Iterates over the events of a response, as they come.

    The response must be a streaming one: `client.stream(...)` of httpx2 or httpx, `requests.get(..., stream=True)`, or
    `preload_content=False` of urllib3. If its body was read before, all events of the body come at once. The caller
    checks the status and the content type, and closes the response.

    Args:
        response: a response of httpx2, httpx, requests or urllib3, or any iterable of bytes.
        limits: the limits for lines and events.

    Raises:
        DecodeLimitExceeded: a line or an event is too large.
        Exception: what the library raises when the connection breaks.
    """
    decoder = _decoder(limits)
    for data in _chunks(response):
        yield from decoder.feed(data)


def aiter_events(response: Any, *, limits: Limits | None = None) -> AsyncIterator[Event]:
    """Iterates over the events of a response, as they come, in an event loop.

    httpx2 and httpx close a response when a wait for it is cancelled, as by `asyncio.wait_for`. The next call raises
    then: what comes to an end in silence would look whole. With aiohttp, call it again.

    Args:
        response: a response of httpx2, httpx or aiohttp, or any async iterable of bytes.
        limits: the limits for lines and events.

    Raises:
        DecodeLimitExceeded: a line or an event is too large.
        RuntimeError: a wait was cancelled, and that has closed the response.
        Exception: what the library raises when the connection breaks.
    """
    return _Events(_async_chunks(response), _decoder(limits))


class _Events(AsyncIterator[Event]):
    """An object and no generator, which would end in silence after a wait was cancelled."""

    def __init__(self, chunks: AsyncIterator[bytes], decoder: Decoder) -> None:
        self._chunks = chunks
        self._decoder = decoder
        self._ready: deque[Event] = deque()
        self._closed = False  # by a cancelled wait: a generator does not go on

    async def __anext__(self) -> Event:
        while not self._ready:
            if self._closed:
                raise RuntimeError(
                    "a wait for an event was cancelled, which has closed the response: "
                    "read with AsyncEventSource, whose waits can be cancelled, or wait in a task of its own"
                )
            try:
                self._ready.extend(self._decoder.feed(await anext(self._chunks)))
            except asyncio.CancelledError:
                self._closed = isasyncgen(self._chunks)
                raise
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Closes the generator below, if there is one; the response is the caller's."""
        if isasyncgen(self._chunks):
            await self._chunks.aclose()


def _decoder(limits: Limits | None) -> Decoder:
    limits = options_or("limits", limits, Limits)
    return Decoder(max_line=limits.max_line, max_event=limits.max_event)


def _chunks(response: Any) -> Iterable[bytes]:
    if hasattr(response, "iter_bytes"):
        return response.iter_bytes()  # type: ignore[no-any-return]
    if hasattr(response, "iter_content"):
        if getattr(response, "_content_consumed", False):
            return response.iter_content(None)  # type: ignore[no-any-return]
        # `iter_content` waits until a size is full, or until the end of a body without chunks.
        return _urllib3_chunks(response.raw)
    if hasattr(response, "release_conn"):
        return _urllib3_chunks(response)
    if isinstance(response, (str, bytes)) or not hasattr(response, "__iter__"):
        raise TypeError(f"iter_events takes a response, or an iterable of bytes, not {shown(response)}")
    return response  # type: ignore[no-any-return]


def _urllib3_chunks(raw: Any) -> Iterable[bytes]:
    if getattr(raw, "_body", None) is not None:
        return (raw.data,)
    if hasattr(raw, "read1"):
        return iter(lambda: raw.read1(_READ, decode_content=True), b"")
    # In urllib3 1.26 only the standard library's response below it can return what has come so far.
    inflater = Inflater(raw.headers.get("content-encoding", ""))
    return (piece for data in iter(lambda: raw._fp.read1(_READ), b"") for piece in inflater.feed(data))


def _async_chunks(response: Any) -> AsyncIterator[bytes]:
    if hasattr(response, "aiter_bytes"):
        return response.aiter_bytes()  # type: ignore[no-any-return]
    if hasattr(response, "content") and hasattr(response.content, "iter_any"):
        if getattr(response, "_body", None) is not None:  # aiohttp's `read` leaves nothing in `content`
            return _one(response._body)
        return aiter(response.content.iter_any())
    if not hasattr(response, "__aiter__"):
        raise TypeError(f"aiter_events takes a response, or an async iterable of bytes, not {shown(response)}")
    return aiter(response)


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data
