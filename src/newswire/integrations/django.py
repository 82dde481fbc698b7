"""Streams in Django: `return await stream(request, hub.subscribe("news", after=last_event_id(request)))`.

In an async view, under an ASGI server (uvicorn, daphne, hypercorn, granian). Before the first byte the database
connections that this request has used are closed: a stream that is open for hours must not hold one. Under WSGI each
open stream would hold a worker, so there `stream` refuses, and says what to do instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any

try:
    from asgiref.sync import sync_to_async
    from django.core.handlers.asgi import ASGIRequest  # type: ignore[import-untyped]
    from django.db import connections  # type: ignore[import-untyped]
    from django.http import StreamingHttpResponse  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError("newswire.integrations.django needs Django: pip install django") from error

from newswire.delivery.reader import Item
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.exchange import Exchange, pairs

__all__ = ["stream"]


async def stream(
    request: Any,
    content: Subscription | AsyncIterable[Item] | Iterable[Item],
    *,
    options: StreamOptions | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> StreamingHttpResponse:
    """Answer a request with a stream.

    Args:
        request: the request.
        content: see `newswire.EventSourceResponse`.
        options: see `StreamOptions`.
        status: the status of the response.
        headers: more headers.

    Raises:
        RuntimeError: the request came through WSGI.
    """
    if not isinstance(request, ASGIRequest):
        raise RuntimeError(
            "this request came through WSGI, where an open stream holds a worker process or thread: serve the project "
            "by an ASGI server (uvicorn project.asgi:application), or let readers read from `newswire serve` on the "
            "same log, and publish from here"
        )
    exchange = Exchange(content, method=str(request.method), options=options, status=status, headers=headers)
    await exchange.start()
    await sync_to_async(_release_connections)()
    found = dict(pairs(exchange.headers))  # the type among them
    return StreamingHttpResponse(_chunks(exchange), status=exchange.status, headers=found)


def _release_connections() -> None:
    """Close what this request has used; not within a transaction, which tests hold open around a view."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


async def _chunks(exchange: Exchange) -> AsyncIterator[bytes]:
    try:
        async for chunk in exchange:
            yield chunk
    finally:
        await exchange.aclose()
