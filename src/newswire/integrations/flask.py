"""Streams in Flask: `return stream(hub, hub.subscribe("news", after=last_event_id(request)))`.

Each open stream holds a worker thread; see `newswire.integrations.wsgi`.
"""

from __future__ import annotations

from collections.abc import Mapping

try:
    from flask import Response, request
except ImportError as _error:
    raise ImportError("newswire.integrations.flask needs Flask: pip install flask") from _error

from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.exchange import pairs
from newswire.integrations.wsgi import WsgiStream

__all__ = ["stream"]


def stream(
    hub: Hub,
    content: Subscription,
    *,
    options: StreamOptions | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer the current request with a stream.

    Args:
        hub: the hub; it opens itself, in a thread of its own.
        content: a subscription of this hub's, made for this request.
        options: see `StreamOptions`.
        status: the status of the response.
        headers: more headers.
    """
    made = WsgiStream(hub, content, options=options, status=status, headers=headers)
    body = made.open(request.method, request.headers.get("Accept-Encoding"))
    found = pairs(body.exchange.headers)
    return Response(body, status=body.exchange.status, headers=found, direct_passthrough=True)
