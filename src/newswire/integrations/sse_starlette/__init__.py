"""sse-starlette's names and meanings, on newswire's delivery. Moving over is one import:

    from newswire.integrations.sse_starlette import EventSourceResponse, ServerSentEvent

What an application says and gets is what sse-starlette documents: the arguments and their positions, the items that a
generator may yield, separators, pings, time-outs, callbacks. Better than there:

* A server's stop ends the streams on uvicorn, granian and hypercorn alike, by signal or by flag, without a patched
  server and without polling; see `newswire.delivery.drain` and `server_stop`.
* The default ping is a comment without a blank line after it. With one, readers of several AI SDKs fail as soon as
  events have ids. What a `ping_message_factory` returns is sent as it is.
* Pings and events never call `send` at the same time.
* An iterator whose stream broke is closed, also if it was never drawn from.

Libraries that import `sse_starlette` themselves (mcp, a2a-sdk, langgraph-api) get these classes by `replace()`.
`newswire.EventSourceResponse` is another class, and the one for new code: it resumes.
"""

from __future__ import annotations

import sys

try:
    import starlette as _starlette  # noqa: F401
except ImportError as _error:
    raise ImportError("newswire.integrations.sse_starlette needs Starlette: pip install starlette") from _error

from newswire.integrations.sse_starlette import event, sse
from newswire.integrations.sse_starlette.appstatus import AppStatus
from newswire.integrations.sse_starlette.event import JSONServerSentEvent, ServerSentEvent, ensure_bytes
from newswire.integrations.sse_starlette.sse import EventSourceResponse, SendTimeoutError

__all__ = [
    "AppStatus",
    "EventSourceResponse",
    "JSONServerSentEvent",
    "SendTimeoutError",
    "ServerSentEvent",
    "ensure_bytes",
    "replace",
]


def replace() -> None:
    """Put this package in the place of `sse_starlette`, for libraries that import that themselves.

    Call it before they are imported. sse-starlette need not be installed.

    Raises:
        RuntimeError: the real `sse_starlette` is imported already, and so may be in use.
    """
    own = sys.modules[__name__]
    if sys.modules.get("sse_starlette") not in (None, own):
        raise RuntimeError("sse_starlette is imported already: call replace() before what imports it")
    sys.modules.update({"sse_starlette": own, "sse_starlette.sse": sse, "sse_starlette.event": event})
