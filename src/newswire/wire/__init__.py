"""`text/event-stream` to events and back.

Every floor of newswire uses it. It needs the standard library only, does no I/O and knows no clock and no event loop.
"""

from newswire.wire.decoder import Decoder
from newswire.wire.encoder import HEARTBEAT, comment, encode
from newswire.wire.event import Event
from newswire.wire.headers import STREAM_HEADERS, is_event_stream, read_last_event_id

__all__ = [
    "HEARTBEAT",
    "STREAM_HEADERS",
    "Decoder",
    "Event",
    "comment",
    "encode",
    "is_event_stream",
    "read_last_event_id",
]
