"""Streams in aiohttp: `return await stream(request, hub.subscribe("news", after=last_event_id(request)))`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Final

try:
    from aiohttp import ClientConnectionResetError, web
    from aiohttp.typedefs import Handler
except ImportError as _error:
    raise ImportError("newswire.integrations.aiohttp needs aiohttp: pip install aiohttp") from _error

from newswire.delivery.problem import Problem, as_problem
from newswire.delivery.reader import Item
from newswire.errors import NewswireError
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.exchange import Exchange

__all__ = ["problems", "stream"]

_LOOK_SECONDS: Final = 1.0


async def stream(
    request: web.Request,
    content: Subscription | AsyncIterable[Item] | Iterable[Item],
    *,
    options: StreamOptions | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer a request with a stream, and return when that has ended.

    Args:
        request: the request.
        content: see `newswire.EventSourceResponse`.
        options: see `StreamOptions`.
        status: the status of the response.
        headers: more headers.
    """
    exchange = await Exchange.begin(request, content, options=options, status=status, headers=headers)
    response = web.StreamResponse(status=exchange.status, headers=exchange.head)
    gone = asyncio.create_task(_leave_with(request, exchange), name="newswire watcher")
    try:
        await response.prepare(request)
        async for chunk in exchange:
            await response.write(chunk)
        await response.write_eof()
    except ClientConnectionResetError:
        pass  # the client has left
    finally:
        gone.cancel()
        await exchange.aclose()
    return response


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what newswire raises in a handler with its problem: `web.Application(middlewares=[problems])`.

    A bad channel name is a 400 then, a refusal of newswire's auth a 401 or 403, and a log that is away a 503.
    """
    try:
        return await handler(request)
    except (Problem, NewswireError) as error:
        problem = as_problem(error)
        return web.Response(body=problem.body(), status=problem.status, headers=problem.headers)


async def _leave_with(request: web.Request, exchange: Exchange) -> None:
    """A quiet stream hears of its client's leaving here: no write of it fails, and aiohttp calls no one."""
    while (transport := request.transport) is not None and not transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)
    await exchange.aclose()
