"""Errors as `application/problem+json` (RFC 9457): the one shape of every error answer that newswire makes.

A `Problem` is what is wrong with one request and what to do. It can be raised, and it is an ASGI application that
answers with itself. The standalone server, the relay, runs and `EventSourceResponse` make all their error answers
of it. `code` is for programs and never changes; `detail` is for people, and `type` is the page that explains the code.
"""

from __future__ import annotations

import json
import logging
import random
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final, Self

from newswire.delivery.asgi import Receive, Scope, Send, send_answer
from newswire.errors import (
    FRAMEWORKS,
    Closed,
    ContractBroken,
    InvalidChannel,
    InvalidEvent,
    InvalidPosition,
    LimitExceeded,
    LogError,
    LogUnavailable,
    LogUncertain,
    NewswireError,
    RunNotFound,
    TokenReused,
    bases_for,
)

logger: logging.Logger = logging.getLogger("newswire.delivery")

CONTENT_TYPE: Final = "application/problem+json"
ERRORS: Final = "https://newswire.github.io/newswire/errors/"  # docs/errors.md on the site: an anchor for each code
# Seconds that a client should wait after a 503: long enough for a log to come back or a deploy to go on, and drawn, so
# that those who were refused together don't return together.
_RETRY_AFTER: Final = (2, 5)
_FAULTS: Final = 20  # of a broken contract, that an answer lists


class Problem(Exception):
    """A request that can't be answered as it is.

    Where Starlette, FastAPI, Litestar, Flask or Quart is in use, it is also one of their errors that have a status. So
    a route that raises it answers with this status and these headers: in Starlette, Flask and Quart with the JSON
    object, in FastAPI and Litestar with JSON of theirs. `newswire.integrations` has a line for each other framework,
    and one for these two that makes it the JSON object.

    Args:
        status: the HTTP status.
        code: what it is, for programs: `invalid_channel`, `too_large` …
        detail: what is wrong, and what to do.
        headers: more headers of the response.
        more: further members of the object, such as `field`, `line` or `limit`.
    """

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        kind: Any = cls
        if bases := bases_for(cls, *FRAMEWORKS):
            kind = _also(kind, *bases)
        error: Self = Exception.__new__(kind, *args)
        return error

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: object
    ) -> None:
        Exception.__init__(self, detail)  # `super()` may lead to a framework's
        self.status = status
        self.code = code
        self.text = detail
        self.headers: dict[str, str] = {"content-type": CONTENT_TYPE, "cache-control": "no-store", **(headers or {})}
        self.more = more

    @property
    def detail(self) -> str:
        """What is wrong, and what to do."""
        return _Detail(self.text, self)

    @property
    def status_code(self) -> int:
        """The HTTP status, by the name that it has in frameworks."""
        return self.status

    def members(self) -> dict[str, object]:
        """The members of the JSON object."""
        return {
            "type": f"{ERRORS}#{self.code}",
            "title": title(self.status),
            "status": self.status,
            "code": self.code,
            "detail": self.text,
            **self.more,
        }

    def body(self) -> bytes:
        """The JSON object as bytes."""
        return json.dumps(self.members(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    def head(self) -> bytes:
        """The head of an HTTP/1.1 response with this body on a connection that closes after it."""
        lines = [f"HTTP/1.1 {self.status} {title(self.status)}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return ("\r\n".join([*lines, f"content-length: {len(self.body())}"]) + "\r\n\r\n").encode("latin-1", "replace")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        headers = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in self.headers.items()]
        await send_answer(send, self.status, headers, self.body(), head_only=scope.get("method") == "HEAD")


class _Detail(str):
    """The text of a problem, which Starlette sends as the body of its answer: it is encoded as the whole object."""

    __slots__ = ("_problem",)
    _problem: Problem

    def __new__(cls, text: str, problem: Problem) -> Self:
        made = super().__new__(cls, text)
        made._problem = problem
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str.__str__(self),)  # a copy is the text alone

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """The JSON object as bytes."""
        return self._problem.body()


@cache
def _also(cls: Any, *bases: Any) -> Any:
    """A class of problems that is also one of errors of frameworks."""

    def call(problem: Any, *request: Any) -> Any:
        if len(request) == 2:  # WSGI's environ and start_response
            return problem.get_response()(*request)
        return cls.__call__(problem, *request)

    def get_response(problem: Problem, *request: Any, **more: Any) -> Any:
        return sys.modules["werkzeug.wrappers"].Response(problem.body(), problem.status, [*problem.headers.items()])

    own: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__call__": call}
    own |= {"__str__": BaseException.__str__, "__repr__": BaseException.__repr__}
    own |= {"get_response": get_response, "response": None, "extra": property(lambda problem: problem.members())}
    return type(cls.__name__, (cls, *bases), own)


def title(status: int) -> str:
    """The reason phrase of a status: the `title` of every problem with it."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def unavailable(detail: str, code: str = "unavailable") -> Problem:
    """A 503: not now; a client may come again in a moment."""
    return Problem(503, code, detail, headers={"retry-after": str(random.randint(*_RETRY_AFTER))})


def problem_of(error: NewswireError) -> Problem:
    """What an error of newswire's is to an HTTP client."""
    match error:
        case ContractBroken():
            faults = [{"field": field, "message": message} for field, message in error.faults[:_FAULTS]]
            return Problem(
                422, "contract_broken", str(error), field=error.field, contract=error.contract, errors=faults
            )
        case InvalidEvent():
            return Problem(400, "invalid_event", str(error), field=error.field)
        case InvalidChannel():
            return Problem(400, "invalid_channel", str(error), field="channel")
        case InvalidPosition():
            return Problem(400, "invalid_position", str(error), field="after")
        case LimitExceeded():
            return Problem(413, "too_large", str(error), limit=error.limit)
        case Closed():
            return unavailable(str(error), "stopping")
        case LogUnavailable():
            return unavailable(str(error), "log_unavailable")
        case LogUncertain():
            detail = f"{error}. Send it again with the same Idempotency-Key, if it had one, or look whether it is there"
            return Problem(504, "log_uncertain", detail, headers={"retry-after": str(random.randint(*_RETRY_AFTER))})
        case TokenReused():
            return Problem(422, "idempotency_key_reused", str(error))
        case LogError():
            logger.error("the log failed: %s", error)
            return Problem(500, "log_failed", "the log failed; the server's own log says why")
        case RunNotFound():
            return not_found("there is no such run, or it is not yours")
        case _:
            logger.error("%s: %s", type(error).__name__, error)
            return internal()


def as_problem(error: Exception) -> Problem:
    """The answer to an error that newswire raised, of either kind."""
    if isinstance(error, Problem):
        return error
    return problem_of(error) if isinstance(error, NewswireError) else internal()


def internal() -> Problem:
    """A 500 that tells nothing of what went wrong."""
    return Problem(500, "internal", "something went wrong; the server's own log says what")


def not_allowed(method: str, path: str, allowed: Iterable[str]) -> Problem:
    """A method that is not possible at a path."""
    names = ", ".join(allowed)
    detail = f"{method[:20]} is not possible at {path[:200]}; what is: {names}"
    return Problem(405, "method_not_allowed", detail, headers={"allow": names})


def not_found(detail: str, **more: Any) -> Problem:
    """A 404."""
    return Problem(404, "not_found", detail, **more)
