"""Streams in Flask: `return stream(hub, hub.subscribe("news", after=last_event_id(request)))`.

Each open stream holds a worker thread; see `newswire.integrations.wsgi`.
"""

from __future__ import annotations

from collections.abc import Mapping

try:
    from flask import Flask, Response, request
except ImportError as _error:
    raise ImportError("newswire.integrations.flask needs Flask: pip install flask") from _error

from newswire.delivery.problem import Problem, as_problem
from newswire.errors import NewswireError
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.exchange import pairs
from newswire.integrations.wsgi import WsgiStream, warn_of_one_thread

__all__ = ["answer_problems", "stream"]


def answer_problems(app: Flask) -> None:
    """Answer what newswire raises in a view with its problem.

    A bad channel name is a 400 then, a refusal of newswire's auth a 401 or 403, and a log that is away a 503.

    Args:
        app: the application, or a blueprint.
    """

    def answer(error: Exception) -> Response:
        problem = as_problem(error)
        return Response(problem.body(), problem.status, problem.headers)

    for kind in (Problem, NewswireError):
        app.register_error_handler(kind, answer)


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
    warn_of_one_thread(request.environ)
    made = WsgiStream(hub, content, options=options, status=status, headers=headers)
    body = made.open(request.method, request.headers.get("Accept-Encoding"))
    found = pairs(body.exchange.headers)
    return Response(body, status=body.exchange.status, headers=found, direct_passthrough=True)
