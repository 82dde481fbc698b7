"""Errors as `application/problem+json` (RFC 9457): what is wrong, and what to do."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from newswire.errors import Closed, LimitExceeded, LogError, NewswireError


def problem(status: int, detail: str, **more: object) -> JSONResponse:
    """A problem response.

    Args:
        detail: what is wrong with this request, and what to do.
        more: further members of the object, such as `field` or `line`.
    """
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    headers = {"retry-after": "2"} if status == 503 else None
    return JSONResponse(body, status, headers, media_type="application/problem+json")


async def on_newswire_error(request: Request, error: Exception) -> Response:
    """What newswire refused."""
    assert isinstance(error, NewswireError)
    if isinstance(error, LimitExceeded):
        return problem(413, str(error), limit=error.limit)
    if isinstance(error, (LogError, Closed)):
        return problem(503, str(error))
    field = getattr(error, "field", None)
    return problem(400, str(error), **({} if field is None else {"field": field}))


async def on_http_error(request: Request, error: Exception) -> Response:
    """What Starlette refused: no such route, no such method."""
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path}: streams are at /channels/NAME and /stream?channel=NAME"
    elif error.status_code == 405:
        detail = f"{request.method} is not possible here; allowed: {(error.headers or {}).get('Allow', '')}"
    response = problem(error.status_code, detail)
    response.headers.update(error.headers or {})
    return response
