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

# The qualified name of the code, and its module. Not those of the function: `functools.wraps` gives them to others.
_TRANSPARENT: Final = {
    "ServerErrorMiddleware.__call__.<locals>._send": "starlette.middleware.errors",
    "wrap_app_handling_exceptions.<locals>.wrapped_app.<locals>.sender": "starlette._exception_handler",
    "CORSMiddleware.send": "starlette.middleware.cors",
    "SessionMiddleware.__call__.<locals>.send_wrapper": "starlette.middleware.sessions",
    "RequestBodyLimitResponder.send_with_limit": "starlette.middleware.body_limit",
    "RequestBodyLimitResponder.receive_with_limit": "starlette.middleware.body_limit",
    "CountRequests.counted.<locals>.counted": "newswire.server.metrics",
    "Origins._granting.<locals>.granting": "newswire.serving.origins",
    "RequestIds._naming.<locals>.naming": "newswire.serving.json_logs",
    "AppBodyLimitMiddleware.__call__.<locals>.send_response": "fastapi._body_limit",
}
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
    if type(call) is FunctionType:  # Starlette's, four times for each stream
        if not _is_transparent(call):
            return None
        names = call.__code__.co_freevars
        return (call.__closure__ or ())[names.index("send")].cell_contents if "send" in names else None
    outer = call.func if isinstance(call, partial) else call
    function = outer.__func__ if isinstance(outer, MethodType) else outer
    if not isinstance(function, FunctionType) or not _is_transparent(function):
        return None
    if isinstance(call, partial):
        return call.keywords.get("send")
    return getattr(call.__self__, "receive" if "receive" in function.__code__.co_name else "send", None)


def _is_transparent(function: FunctionType) -> bool:
    module = _TRANSPARENT.get(function.__code__.co_qualname)
    return module is not None and module == function.__globals__.get("__name__")
