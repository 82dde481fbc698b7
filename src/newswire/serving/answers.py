"""Answers of applications that Starlette serves: those that no cache may keep, and exceptions as error answers.

What a server says of itself, of its channels and of credentials, no cache keeps. `newswire.delivery.problem` makes the
errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import Scope

from newswire.delivery.bodies import ClientGone
from newswire.delivery.problem import Problem, internal, not_allowed, not_found, problem_of
from newswire.errors import NewswireError
from newswire.wire.payload import write_json

NO_STORE: Final = {"cache-control": "no-store"}


class JsonAnswer(JSONResponse):
    """A JSON answer that no cache keeps."""

    def __init__(self, value: Any, status: int = 200) -> None:
        super().__init__(value, status, NO_STORE)

    def render(self, content: Any) -> bytes:
        """Write it; a lone surrogate, which a member's state may have, is escaped."""
        return write_json(content).encode()


def problem_from(error: Exception, scope: Scope) -> Problem | None:
    """The answer to an exception that is about a request; None if the exception is a bug."""
    match error:
        case Problem():
            return error
        case NewswireError():
            return problem_of(error)
        case ClientGone():  # in the middle of its body: nothing was stored, and nothing reads this
            return Problem(400, "client_gone", "the client left in the middle of its request")
        case HTTPException():
            return _refused_by_starlette(error, scope)
    return None


def _refused_by_starlette(error: HTTPException, scope: Scope) -> Problem:
    path = scope["path"][:200]
    if error.status_code == 404:
        return not_found(f"there is nothing at {path}: streams are at /channels/NAME and at /stream?channel=NAME")
    if error.status_code == 405:
        allowed = sorted(_methods(scope) or (error.headers or {}).get("Allow", "").split(", "))
        return not_allowed(scope["method"], path, allowed)
    return Problem(error.status_code, "refused", str(error.detail), headers=error.headers)


def _methods(scope: Scope) -> set[str]:
    """The methods of a path, by all its routes: Starlette has asked the first only."""
    routes = getattr(scope.get("app"), "routes", ())
    return {
        method
        for route in routes
        if route.matches(scope)[0] is Match.PARTIAL
        for method in getattr(route, "methods", None) or ()
    }


async def _answer(request: Request, error: Exception) -> Any:
    # A Problem is an ASGI application, which is all that Starlette asks of a response. A bug's exception is raised
    # again by Starlette, so that the server's log shows it.
    return problem_from(error, request.scope) or internal()


HANDLERS: Final[Mapping[type[BaseException], Callable[[Request, Exception], Awaitable[Any]]]] = dict.fromkeys(
    (NewswireError, Problem, HTTPException, ClientGone, Exception), _answer
)
"""What answers each kind of exception, for Starlette."""
