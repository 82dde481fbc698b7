"""Errors as `application/problem+json` (RFC 9457): what is wrong with this request, and what to do.

Every answer of the server that is an error comes from here, those of routing (404, 405) among them. `code` is for
programs and never changes; `detail` is for people.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from newswire.errors import (
    Closed,
    InvalidChannel,
    InvalidEvent,
    InvalidPosition,
    LimitExceeded,
    LogError,
    LogUnavailable,
    NewswireError,
)

logger = logging.getLogger("newswire.server")

_RETRY_AFTER = {"retry-after": "2"}


class Problem(HTTPException):
    """A request that can't be answered as it is; raise it anywhere below a route.

    Args:
        status: the HTTP status.
        code: what it is, for programs: `invalid_channel`, `too_large` …
        detail: what is wrong, and what to do.
        headers: more headers of the response.
        more: further members of the object, such as `field`, `line` or `limit`.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: object
    ) -> None:
        super().__init__(status, detail, headers)
        self.code = code
        self.more = more


def respond(problem: Problem) -> Response:
    """The response that says so."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "code": problem.code,
        "detail": problem.detail,
        **problem.more,
    }
    content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    headers = {"cache-control": "no-store", **(problem.headers or {})}
    return Response(content, problem.status_code, headers, media_type="application/problem+json")


def unavailable(detail: str, code: str = "unavailable") -> Problem:
    """Not now; a client may come again in a moment."""
    return Problem(503, code, detail, headers=_RETRY_AFTER)


def problem_of(error: NewswireError) -> Problem:
    """What an error of newswire's is to an HTTP client."""
    match error:
        case InvalidEvent():
            return Problem(400, "invalid_event", str(error), field=error.field)
        case InvalidChannel():
            return Problem(400, "invalid_channel", str(error), field="channel")
        case InvalidPosition():
            return Problem(400, "invalid_position", str(error), field="after")
        case LimitExceeded():
            return Problem(413, "too_large", str(error), limit=error.limit)
        case Closed():
            return unavailable("the server is stopping: connect again in a moment", "stopping")
        case LogUnavailable():
            return unavailable(str(error), "log_unavailable")
        case LogError():
            logger.error("the log failed: %s", error)
            return Problem(500, "log_failed", "the log failed; the server's own log says why")
        case _:
            logger.error("%s: %s", type(error).__name__, error)
            return Problem(500, "internal", "something went wrong; the server's own log says what")


async def on_newswire_error(request: Request, error: Exception) -> Response:
    """Answer what newswire refused."""
    assert isinstance(error, NewswireError)
    return respond(problem_of(error))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer a `Problem`, or what Starlette refused: no such route, no such method."""
    assert isinstance(error, HTTPException)
    if isinstance(error, Problem):
        return respond(error)
    path = request.url.path[:200]
    if error.status_code == 404:
        detail = f"there is nothing at {path}: streams are at /channels/NAME and at /stream?channel=NAME"
        return respond(Problem(404, "not_found", detail))
    if error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        detail = f"{request.method[:20]} is not possible at {path}; what is: {allowed}"
        return respond(Problem(405, "method_not_allowed", detail, headers={"allow": allowed}))
    return respond(Problem(error.status_code, "refused", str(error.detail), headers=error.headers))


async def on_disconnect(request: Request, error: Exception) -> Response:
    """The client left in the middle of its body: nothing was stored, and nobody reads this."""
    assert isinstance(error, ClientDisconnect)
    return Response(status_code=400)


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer an exception that nobody expected; Starlette raises it again, so that the server's log shows it."""
    return respond(Problem(500, "internal", "something went wrong; the server's own log says what"))
