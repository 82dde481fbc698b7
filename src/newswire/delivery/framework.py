"""Responses that frameworks take for their own.

An ASGI application is a response everywhere but in FastAPI, which makes JSON of whatever a route returns that is no
`Response` of Starlette's, and reads a route's annotation for the same. So where Starlette is installed, newswire's
responses are of its class; newswire needs none of what that does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _Base = object
else:
    try:
        from starlette.responses import Response as _Base
    except ImportError:
        _Base = object


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

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code  # and no more: Starlette's own would make the headers of a body
        self.raw_headers = []
        self.background = None

    def render(self, content: object = None) -> bytes:
        """What Django asks a view's answer for; this is no answer of its kind.

        Raises:
            TypeError: always; it says what to do.
        """
        raise TypeError(
            f"{type(self).__name__} is an answer for ASGI frameworks (Starlette, FastAPI, Litestar …). In Django, "
            "mount an ASGI application with newswire's routes beside Django's in asgi.py"
        )
