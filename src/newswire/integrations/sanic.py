"""Streams in Sanic: `return await stream(request, hub.subscribe("news", after=last_event_id(request)))`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

from newswire.delivery.reader import Item
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.exchange import Exchange

__all__ = ["stream"]


async def stream(
    request: Any,
    content: Subscription | AsyncIterable[Item] | Iterable[Item],
    *,
    options: StreamOptions | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer a request with a stream, and return when that has ended: `return await stream(...)`.

    Args:
        request: the request, of a handler that is async.
        content: see `newswire.EventSourceResponse`.
        options: see `StreamOptions`.
        status: the status of the response.
        headers: more headers.
    """
    exchange = await Exchange.begin(request, content, options=options, status=status, headers=headers)
    try:
        own = exchange.head
        kind = own.pop("Content-Type", "text/event-stream; charset=utf-8")
        response = await request.respond(status=exchange.status, headers=own, content_type=kind)
        async for chunk in exchange:
            await response.send(chunk)
        await response.eof()
    finally:  # Sanic cancels the handler of a client that has left
        await exchange.aclose()
