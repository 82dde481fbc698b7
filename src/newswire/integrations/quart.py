"""Streams in Quart: `return await stream(hub.subscribe("news", after=last_event_id(request)))`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping

try:
    from quart import Quart, Response, request
except ImportError as _error:
    raise ImportError("newswire.integrations.quart needs Quart: pip install quart") from _error

from newswire.delivery.problem import Problem, as_problem
from newswire.delivery.reader import Item
from newswire.errors import NewswireError
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.exchange import Exchange

__all__ = ["answer_problems", "stream"]


def answer_problems(app: Quart) -> None:
    """Answer what newswire raises in a view with its problem.

    A bad channel name is a 400 then, a refusal of newswire's auth a 401 or 403, and a log that is away a 503.

    Args:
        app: the application, or a blueprint.
    """

    async def answer(error: Exception) -> Response:
        problem = as_problem(error)
        return Response(problem.body(), problem.status, problem.headers)

    for kind in (Problem, NewswireError):
        app.register_error_handler(kind, answer)


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
