"""Events of a response that you already have, from httpx2, httpx, requests, urllib3 or aiohttp.

Applications call these functions with one response, and read it to its end. Nothing here connects, reconnects or keeps
a cursor: `EventSource` does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from newswire.client.options import Limits
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


async def aiter_events(response: Any, *, limits: Limits | None = None) -> AsyncIterator[Event]:
    """Iterates over the events of a response, as they come, in an event loop.

    Args:
        response: a response of httpx2, httpx or aiohttp, or any async iterable of bytes.
        limits: the limits for lines and events.

    Raises:
        DecodeLimitExceeded: a line or an event is too large.
        Exception: what the library raises when the connection breaks.
    """
    decoder = _decoder(limits)
    async for data in _async_chunks(response):
        for event in decoder.feed(data):
            yield event


def _decoder(limits: Limits | None) -> Decoder:
    limits = limits or Limits()
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
    return response  # type: ignore[no-any-return]


def _urllib3_chunks(raw: Any) -> Iterable[bytes]:
    if getattr(raw, "_body", None) is not None:
        return (raw.data,)
    if hasattr(raw, "read1"):
        return iter(lambda: raw.read1(_READ, decode_content=True), b"")
    # In urllib3 1.26 only the standard library's response below it can return what has come so far.
    inflater = Inflater(raw.headers.get("content-encoding", ""))
    return (piece for data in iter(lambda: raw._fp.read1(_READ), b"") for piece in inflater.feed(data))


async def _async_chunks(response: Any) -> AsyncIterator[bytes]:
    if hasattr(response, "aiter_bytes"):
        chunks = response.aiter_bytes()
    elif hasattr(response, "content") and hasattr(response.content, "iter_any"):
        if getattr(response, "_body", None) is not None:  # aiohttp's `read` leaves nothing in `content`
            yield response._body
        chunks = response.content.iter_any()
    else:
        chunks = response
    async for data in chunks:
        yield data
