"""Problems in Starlette: `Starlette(exception_handlers=problems)`. A stream is `newswire.EventSourceResponse`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from newswire.delivery.problem import Problem, as_problem
from newswire.errors import NewswireError

__all__ = ["problems"]


async def _answer(request: Any, error: Exception) -> Any:
    return as_problem(error)  # an ASGI application, which is all that Starlette asks of a response


problems: Final[dict[Any, Callable[[Any, Any], Awaitable[Any]]]] = {Problem: _answer, NewswireError: _answer}
"""Answers what newswire raises in a route with its problem, for the `exception_handlers` of Starlette or FastAPI.

A bad channel name is a 400 then, a refusal of newswire's auth a 401 or 403, and a log that is away a 503, each with all
members of the problem. Without it Starlette answers some of these with plain text, and FastAPI with JSON of its own,
which has nothing but `detail`.
"""
