"""Server-Sent Events for Python, end to end: every subscriber reads from where it left off."""

from newswire.delivery.request import last_event_id
from newswire.delivery.response import EventSourceResponse
from newswire.errors import NewswireError
from newswire.hub.hub import Hub
from newswire.hub.options import HubOptions, StreamOptions
from newswire.log.base import Log, Retention
from newswire.log.channels import Pattern, channel
from newswire.log.open import open_log
from newswire.log.position import Position
from newswire.wire.decoder import Decoder
from newswire.wire.event import Event

__version__ = "0.1.0"

__all__ = [
    "Decoder",
    "Event",
    "EventSourceResponse",
    "Hub",
    "HubOptions",
    "Log",
    "NewswireError",
    "Pattern",
    "Position",
    "Retention",
    "StreamOptions",
    "channel",
    "last_event_id",
    "open_log",
]
