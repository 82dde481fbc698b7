"""What the server answers to errors, as `application/problem+json` (`newswire.delivery.problem`).

Every answer of the server that is an error comes from here, those of routing (404, 405) among them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from newswire.delivery.bodies import ClientGone
from newswire.delivery.problem import Problem, internal, not_found, problem_of, unavailable
from newswire.errors import NewswireError

__all__ = ["Problem", "respond", "unavailable"]


def respond(problem: Problem) -> Response:
    """Starlette's response for a problem."""
    return Response(problem.body(), problem.status, problem.headers)


async def answer(request: Request, error: Exception) -> Response | None:
    """The response to an exception that says what is wrong with a request; None if it says what is wrong with us."""
    for kind in type(error).__mro__:
        if kind in HANDLERS and kind is not Exception:
            return await HANDLERS[kind](request, error)
    return None


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer a `Problem` that was raised."""
    assert isinstance(error, Problem)
    return respond(error)


async def on_newswire_error(request: Request, error: Exception) -> Response:
    """Answer what newswire refused."""
    assert isinstance(error, NewswireError)
    return respond(problem_of(error))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what Starlette refused: no such route, no such method."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 404:
        detail = f"there is nothing at {path}: streams are at /channels/NAME and at /stream?channel=NAME"
        return respond(not_found(detail))
    if error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        detail = f"{request.method[:20]} is not possible at {path}; what is: {allowed}"
        return respond(Problem(405, "method_not_allowed", detail, headers={"allow": allowed}))
    return respond(Problem(error.status_code, "refused", str(error.detail), headers=error.headers))


async def on_disconnect(request: Request, error: Exception) -> Response:
    """The client left in the middle of its body: nothing was stored, and nobody reads this."""
    assert isinstance(error, ClientGone)
    return Response(status_code=400)


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer an exception that nobody expected; Starlette raises it again, so that the server's log shows it."""
    return respond(internal())


HANDLERS: Final[Mapping[type[BaseException], Callable[[Request, Exception], Awaitable[Response]]]] = {
    NewswireError: on_newswire_error,
    Problem: on_problem,
    HTTPException: on_http_error,
    ClientGone: on_disconnect,
    Exception: on_bug,
}
"""What answers each kind of exception; Starlette reads it too."""
