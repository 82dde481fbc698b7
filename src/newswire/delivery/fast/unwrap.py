"""The server's own `send` and `receive`, beneath those of middlewares that only look at a response's head.

Starlette puts two closures around `send` that note whether the response has started, and its middlewares for CORS,
sessions and body limits add to the head, at most. Once the head is sent they hand on each message as it is, so what
follows may as well go to what they hand it to. Only callables that are known to do so are passed by; the first that is
not, such as one that compresses, gets everything.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType
from typing import Any, Final, TypeVar

from newswire.delivery.fast import ENABLED

# The module and the qualified name of the code. Not those of the function: `functools.wraps` gives them to others.
_TRANSPARENT: Final = frozenset(
    {
        ("starlette.middleware.errors", "ServerErrorMiddleware.__call__.<locals>._send"),
        ("starlette._exception_handler", "wrap_app_handling_exceptions.<locals>.wrapped_app.<locals>.sender"),
        ("starlette.middleware.cors", "CORSMiddleware.send"),
        ("starlette.middleware.sessions", "SessionMiddleware.__call__.<locals>.send_wrapper"),
        ("starlette.middleware.body_limit", "RequestBodyLimitResponder.send_with_limit"),
        ("starlette.middleware.body_limit", "RequestBodyLimitResponder.receive_with_limit"),
        ("newswire.server.metrics", "CountRequests.counted.<locals>.counted"),
        ("newswire.serving.origins", "Origins._granting.<locals>.granting"),
        ("newswire.serving.json_logs", "RequestIds._naming.<locals>.naming"),
        ("fastapi._body_limit", "AppBodyLimitMiddleware.__call__.<locals>.send_response"),
    }
)
_Call = TypeVar("_Call")


def unwrap(call: _Call) -> _Call:
    """What a `send` comes to, from the response's head on; or a `receive`, for a wait for the disconnect.

    Args:
        call: what an ASGI application was given.

    Returns:
        what `call` hands everything to, as it is; `call` itself, if that isn't certain.
    """
    while ENABLED and (inner := _inner(call)) is not None:
        call = inner
    return call


def _inner(call: Any) -> Any:
    outer = call.func if isinstance(call, partial) else call
    function = outer.__func__ if isinstance(outer, MethodType) else outer
    if not isinstance(function, FunctionType):
        return None
    code = function.__code__
    if (function.__globals__.get("__name__"), code.co_qualname) not in _TRANSPARENT:
        return None
    if isinstance(call, partial):
        return call.keywords.get("send")
    if isinstance(outer, MethodType):
        return getattr(outer.__self__, "receive" if "receive" in code.co_name else "send", None)
    if "send" not in code.co_freevars:
        return None
    return (function.__closure__ or ())[code.co_freevars.index("send")].cell_contents
