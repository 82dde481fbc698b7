"""Reading event streams: `EventSource` and `AsyncEventSource`, which reconnect and resume by themselves.

Applications and `newswire tail` import from here. The package reads streams of any server, and never imports newswire's
own server side.
"""

from newswire.client.async_source import AsyncEventSource
from newswire.client.backoff import Backoff
from newswire.client.cursor import CursorFile, CursorStore
from newswire.client.options import Clock, Hooks, Limits, Opened, Options, Resume, Timeouts
from newswire.client.protocol import ReadyState
from newswire.client.responses import aiter_events, iter_events
from newswire.client.session import Stats
from newswire.client.source import EventSource
from newswire.client.typed import decode_as

__all__ = [
    "AsyncEventSource",
    "Backoff",
    "Clock",
    "CursorFile",
    "CursorStore",
    "EventSource",
    "Hooks",
    "Limits",
    "Opened",
    "Options",
    "ReadyState",
    "Resume",
    "Stats",
    "Timeouts",
    "aiter_events",
    "decode_as",
    "iter_events",
]
