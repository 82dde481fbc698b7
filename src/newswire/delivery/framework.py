"""What a response has to do with its framework: its class, its scopes, and what its request holds open.

An ASGI application is a response everywhere but in FastAPI, which makes JSON of whatever a route returns that is no
`Response` of Starlette's, and reads a route's annotation for the same. So where Starlette is installed, newswire's
responses are of its class; newswire needs none of what that does.

A response may answer a WebSocket's handshake too, where the server has the extension `websocket.http.response`: the
client then gets an HTTP response instead of a WebSocket. Anything else is a mistake, and the error names it.

FastAPI keeps dependencies with `yield`, such as a database session, until the response is sent. For a stream that is as
long as it is open, so a pool of ten connections would serve ten readers. A subscription needs nothing of its request:
its dependencies end when its stream begins, before the head, so that an error at their end still becomes a status code.
An iterable may use them. They stay open with it.

A session of such an iterable stays open with the stream too. With a pool of five connections the sixth reader then
waits, and after him everyone. Newswire can't know whether the iterable needs the session, so it ends nothing. It logs
one warning in a process, which says what is held and what to do. Looking costs a stream nothing where SQLAlchemy is not
imported, and nothing after the warning. A session is found where requests have them: in a dependency of FastAPI's,
among the variables of the generator that is the stream's content, and in `request.state`. SQLAlchemy's own objects say
whether a connection is checked out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from newswire.delivery.asgi import Message, Receive, Scope, Send
from newswire.validate import is_whole

logger: logging.Logger = logging.getLogger("newswire.delivery")

_DEPTH: Final = 4  # FastAPI's context managers in context managers, for dependencies that run in a thread
_CONNECTION: Final = (
    "A stream begins while its request has a connection of SQLAlchemy's pool checked out. It holds that as long as it "
    "is open, and when the streams hold all of the pool, every other request waits. Close the session (or commit) "
    "before the stream begins: declare it Depends(..., scope='function') in FastAPI, or use `with Session(...)` for "
    "each query inside the iterable. This warning comes once in a process."
)
_DEPENDENCIES: Final = (
    "A stream holds the dependencies with yield of its request (a database session, say) for as long as it is open, "
    "because its iterable or its background task may use them. If they don't, declare them "
    "Depends(..., scope='function'), or open what the iterable needs inside it. This warning comes once in a process."
)
_warned = False


def warn_of_held(scope: Any, content: Any = None, *, dependencies: bool = True) -> None:
    """Log a warning, once in a process, if the stream that is about to begin holds something of its request.

    Args:
        scope: of the request.
        content: the iterable of the stream, or the frame that draws from it; None for a subscription.
        dependencies: whether FastAPI's dependencies with `yield` are still open.
    """
    global _warned
    if _warned:
        return
    stacks = [scope.get(name) for name in STACKS] if dependencies else []
    if "sqlalchemy" in sys.modules and any(map(_has_connection, _candidates(scope, content, stacks))):
        _warned = True
        logger.warning(_CONNECTION)
    elif stacks and getattr(stacks[0], "_exit_callbacks", None):  # contextlib's own; without it there is no warning
        _warned = True
        logger.warning(_DEPENDENCIES)


def _candidates(scope: Any, content: Any, stacks: list[Any]) -> Iterator[Any]:
    """The values that may be sessions or connections."""
    yield from (scope.get("state") or {}).values()
    yield from _variables(content)
    for stack in stacks:
        if isinstance(stack, AsyncExitStack):
            for _, callback in getattr(stack, "_exit_callbacks", ()):
                yield from _within(getattr(callback, "__self__", None), _DEPTH)


def _within(manager: Any, depth: int) -> Iterator[Any]:
    """The variables of a context manager that was made of a generator, and of those among them."""
    for value in _variables(getattr(manager, "gen", None)):
        yield value
        if depth and hasattr(value, "gen"):
            yield from _within(value, depth - 1)


def _variables(source: Any) -> list[Any]:
    """Those of a generator, or of a frame."""
    if isinstance(source, FrameType):
        return list(source.f_locals.values())
    frame = getattr(source, "ag_frame", None) or getattr(source, "gi_frame", None)
    return [] if frame is None else list(frame.f_locals.values())


def _has_connection(value: Any) -> bool:
    """Whether it is a session or a connection of SQLAlchemy's that holds a connection of the pool."""
    if not type(value).__module__.startswith("sqlalchemy."):
        bases = type(value).__mro__  # SQLModel's session is a subclass
        if not any(base.__module__.startswith("sqlalchemy.") for base in bases):
            return False
    value = getattr(value, "sync_session", value)
    value = getattr(value, "sync_connection", value)
    get_transaction = getattr(value, "get_transaction", None)
    if get_transaction is None:
        return False
    if hasattr(value, "closed"):  # a connection
        return not value.closed
    transaction = get_transaction()
    return transaction is not None and bool(getattr(transaction, "_connections", True))


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
        if not (is_whole(status_code) and 100 <= status_code <= 599):
            raise ValueError(f"status_code is a number from 100 to 599, not {status_code!r:.60}")
        self.status_code = status_code  # and no more: Starlette's own would make the headers of a body
        self.raw_headers = []
        self.background = None

    def render(self, content: object = None) -> bytes:
        """What Django asks a view's answer for; this is no answer of its kind.

        Raises:
            TypeError: always; it says what to do.
        """
        raise TypeError(
            f"{type(self).__name__} is an answer for ASGI frameworks (Starlette, FastAPI, Litestar …). In Django: "
            "`return await stream(request, hub.subscribe(...))` in an async view, from newswire.integrations.django, "
            "or mount an ASGI application beside Django's in asgi.py"
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
