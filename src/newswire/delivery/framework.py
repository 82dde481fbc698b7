"""Responses that frameworks take for their own.

An ASGI application is a response everywhere but in FastAPI, which makes JSON of whatever a route returns that is no
`Response` of Starlette's. newswire needs no Starlette, and nothing here imports it. Where the application has done so
before (`fastapi` comes before `newswire`), newswire's responses are Starlette's by class, also in the annotations that
FastAPI reads; where it does later, each one that is made is of a class that is both.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, Self


def _starlette() -> type[Any] | None:
    responses = sys.modules.get("starlette.responses")
    return None if responses is None else responses.Response


if TYPE_CHECKING:
    _Base = object
else:
    _Base = _starlette() or object


class FrameworkResponse(_Base):
    """The base of newswire's responses.

    Attributes:
        status_code: the status.
        raw_headers: names in lower case and values, as ASGI has them; Starlette's `headers` and `set_cookie` change it.
        background: awaited in the end; None: nothing is.
    """

    status_code: int
    raw_headers: list[tuple[bytes, bytes]]
    background: Any
    body = b""

    def __new__(cls, *args: Any, **options: Any) -> Self:
        kind: type[Any] = cls
        starlette = _starlette()
        if starlette is not None and not issubclass(kind, starlette):
            kind = _both(kind, starlette)
        made: Self = object.__new__(kind)
        return made


@cache
def _both(own: type[Any], starlette: type[Any]) -> type[Any]:
    return type(own.__name__, (own, starlette), {"__module__": own.__module__, "__doc__": own.__doc__})
