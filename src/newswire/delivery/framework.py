"""Responses that frameworks take for their own, in every scope that a response can be called in.

An ASGI application is a response everywhere but in FastAPI, which makes JSON of whatever a route returns that is no
`Response` of Starlette's, and reads a route's annotation for the same. So where Starlette is installed, newswire's
responses are of its class; newswire needs none of what that does.

A response may answer a WebSocket's handshake too, where the server has the extension `websocket.http.response`: the
client then gets an HTTP response instead of a WebSocket. Anything else is a mistake, and the error names it.

FastAPI keeps dependencies with `yield`, such as a database session, until the response is sent. For a stream that is as
long as it is open, so a pool of ten connections would serve ten readers. A subscription needs nothing of its request:
its dependencies end when its stream begins, before the head, so that an error at their end still becomes a status code.
An iterable may use them. They stay open with it; see `newswire.delivery.held`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from newswire.delivery.asgi import Message, Receive, Scope, Send

if TYPE_CHECKING:
    _Base = object
else:
    try:
        from starlette.responses import Response as _Base
    except ImportError:
        _Base = object

# Where FastAPI keeps the dependencies of a request, and the files of its form.
STACKS: Final = ("fastapi_inner_astack", "fastapi_middleware_astack")


class StarletteCompatible(_Base):
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


def as_http(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    """What a response is called with, as for an HTTP request.

    Raises:
        RuntimeError: there is no way to answer with an HTTP response here.
    """
    kind = scope["type"]
    if kind == "http":
        return scope, receive, send
    if kind != "websocket":
        raise RuntimeError(
            f"a response answers HTTP requests, and this is the {kind!r} scope: only a route returns one"
        )
    extensions = scope.get("extensions") or {}
    if "websocket.http.response" not in extensions:
        raise RuntimeError(
            "a response answers HTTP requests, and this is a WebSocket whose server can't refuse it with a response "
            "(the ASGI extension websocket.http.response): route WebSockets to an endpoint of their own"
        )

    async def http_receive() -> Message:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def http_send(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    own = {name: value for name, value in extensions.items() if not name.startswith("newswire.")}
    return {"method": "GET", **scope, "type": "http", "extensions": own}, http_receive, http_send


async def release(scope: Any) -> None:
    """End the dependencies of a request whose response needs them no more.

    Raises:
        Exception: what a dependency raised at its end.
    """
    for name in STACKS:
        stack = scope.get(name)
        if isinstance(stack, AsyncExitStack):
            await stack.aclose()
