"""Streams in Sanic: `return await stream(request, hub.subscribe("news", after=last_event_id(request)))`."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

from newswire.delivery.problem import CONTENT_TYPE, Problem, as_problem
from newswire.delivery.reader import Item
from newswire.errors import NewswireError
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.exchange import Exchange

__all__ = ["answer_problems", "stream"]


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


def answer_problems(app: Any) -> None:
    """Answer what newswire raises in a handler with its problem.

    A bad channel name is a 400 then, a refusal of newswire's auth a 401 or 403, and a log that is away a 503.

    Args:
        app: the application.
    """
    from sanic.response import HTTPResponse  # type: ignore[import-not-found]

    async def answer(request: Any, error: Exception) -> Any:
        problem = as_problem(error)
        return HTTPResponse(problem.body(), problem.status, problem.headers, content_type=CONTENT_TYPE)

    for kind in (Problem, NewswireError):
        app.error_handler.add(kind, answer)
