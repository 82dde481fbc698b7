"""Server-Sent Events for Python, end to end: every subscriber reads from where it left off.

`import newswire` costs next to nothing: each name below is imported when it is first used, with what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from newswire.client.async_source import AsyncEventSource
    from newswire.client.source import EventSource
    from newswire.delivery.request import last_event_id
    from newswire.delivery.response import EventSourceResponse
    from newswire.errors import NewswireError
    from newswire.hub.hub import Hub
    from newswire.hub.options import HubOptions, PresenceOptions, StreamOptions
    from newswire.hub.presence.member import Member
    from newswire.log.channels import Pattern, channel
    from newswire.log.log import Log
    from newswire.log.open import open_log
    from newswire.log.position import Position
    from newswire.log.retention import Retention
    from newswire.runs.runs import Runs
    from newswire.server.mounted import asgi_app
    from newswire.wire.decoder import Decoder
    from newswire.wire.event import Event

__version__ = "0.1.0"

__all__ = [
    "AsyncEventSource",
    "Decoder",
    "Event",
    "EventSource",
    "EventSourceResponse",
    "Hub",
    "HubOptions",
    "Log",
    "Member",
    "NewswireError",
    "Pattern",
    "Position",
    "PresenceOptions",
    "Retention",
    "Runs",
    "StreamOptions",
    "asgi_app",
    "channel",
    "last_event_id",
    "open_log",
]

# Where each name is defined; and the public packages, so that `newswire.errors` works after `import newswire`.
_HOMES = {
    "AsyncEventSource": "client.async_source",
    "Decoder": "wire.decoder",
    "Event": "wire.event",
    "EventSource": "client.source",
    "EventSourceResponse": "delivery.response",
    "Hub": "hub.hub",
    "HubOptions": "hub.options",
    "Log": "log.log",
    "Member": "hub.presence.member",
    "NewswireError": "errors",
    "Pattern": "log.channels",
    "Position": "log.position",
    "PresenceOptions": "hub.options",
    "Retention": "log.retention",
    "Runs": "runs.runs",
    "StreamOptions": "hub.options",
    "asgi_app": "server.mounted",
    "channel": "log.channels",
    "last_event_id": "delivery.request",
    "open_log": "log.open",
}
_PACKAGES = ("browser", "client", "contract", "errors", "log", "relay", "runs", "server", "testing", "wire")

if not TYPE_CHECKING:  # a type checker knows every name, and would otherwise take any other for a name of ours

    def __getattr__(name: str) -> Any:
        if name in _PACKAGES:
            return import_module(f"newswire.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"newswire.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES, *_PACKAGES})
