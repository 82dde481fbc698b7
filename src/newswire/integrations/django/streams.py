"""Streams in views: `return await stream(request, hub.subscribe("news", after=last_event_id(request)))`.

In an async view, under an ASGI server (uvicorn, daphne, hypercorn, granian). Before the first byte the database
connections that this request has used are closed: a stream that is open for hours must not hold one. Under WSGI each
open stream would hold a worker. There the answer is 307, with a ticket for the server that `NEWSWIRE["SERVER"]` names;
`redirect` is the same for views that are not async.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]
from django.core.handlers.asgi import ASGIRequest  # type: ignore[import-untyped]
from django.db import connections  # type: ignore[import-untyped]
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse  # type: ignore[import-untyped]

from newswire.delivery.reader import Item
from newswire.delivery.request import CURSOR, last_event_id
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.django.config import config
from newswire.integrations.exchange import Exchange
from newswire.integrations.redirect import parameters_of


async def stream(
    request: Any,
    content: Subscription | AsyncIterable[Item] | Iterable[Item],
    *,
    options: StreamOptions | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HttpResponseBase:
    """Answer a request with a stream.

    Args:
        request: the request.
        content: see `newswire.EventSourceResponse`.
        options: see `StreamOptions`.
        status: the status of the response.
        headers: more headers.

    Raises:
        ImproperlyConfigured: the request came through WSGI, and no server streams for it.
    """
    if not isinstance(request, ASGIRequest):
        if not isinstance(content, Subscription):
            raise ImproperlyConfigured(
                "an iterable can't be streamed through WSGI: serve the project by an ASGI server"
            )
        return await sync_to_async(redirect)(request, content)
    exchange = await Exchange.begin(request, content, options=options, status=status, headers=headers)
    await sync_to_async(release_connections)()
    return _Stream(exchange.chunks(), status=exchange.status, headers=exchange.head)


class _Stream(StreamingHttpResponse):  # type: ignore[misc]
    """A response that middleware leaves uncompressed.

    Django's `GZipMiddleware` makes a gzip file of each chunk, and browsers read no further than the first one.
    """

    def has_header(self, header: str) -> bool:
        """Whether there is this header. Middleware that compresses asks so whether another one has compressed."""
        return header.lower() == "content-encoding" or bool(super().has_header(header))

    __contains__ = has_header


def redirect(request: Any, content: Subscription, *, until: float | None = None) -> HttpResponse:
    """Answer a request with 307: the stream is at `NEWSWIRE["SERVER"]`, with a ticket for this user.

    In a view that is not async, under any server. The view decides about the channels.

    Args:
        request: the request.
        content: the subscription: its channels, where it begins, and its `envelope`; `after` not given, the cursor of
            the request.
        until: when the stream ends for good, in seconds since the Unix epoch; None: after 12 hours.

    Raises:
        ImproperlyConfigured: there is no such server.
    """
    user = getattr(request, "user", None)
    subject = str(user.pk) if user is not None and user.is_authenticated else None
    more = parameters_of(content)
    after = None if any(name == CURSOR for name, _ in more) else last_event_id(request)
    location = config().streams().location(content.channels, subject=subject, after=after, until=until, more=more)
    return HttpResponse(status=307, headers={"Location": location, "Cache-Control": "no-store"})


def release_connections() -> None:
    """Close what this request has used; not within a transaction, which tests hold open around a view."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
