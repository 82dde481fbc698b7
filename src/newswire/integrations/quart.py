"""Streams in Quart: `return await stream(hub.subscribe("news", after=last_event_id(request)))`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping

try:
    from quart import Response, request
except ImportError as _error:
    raise ImportError("newswire.integrations.quart needs Quart: pip install quart") from _error

from newswire.delivery.reader import Item
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.exchange import Exchange

__all__ = ["stream"]


async def stream(
    content: Subscription | AsyncIterable[Item] | Iterable[Item],
    *,
    options: StreamOptions | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer the current request with a stream; see `newswire.EventSourceResponse` for the arguments."""
    exchange = await Exchange.begin(request, content, options=options, status=status, headers=headers)
    response = Response(exchange.chunks(), status=exchange.status, headers=exchange.head)
    response.timeout = None  # Quart's own would end the stream after a minute
    return response
