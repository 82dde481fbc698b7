"""The HTTP headers that event streams need, on both sides.

`Connection` and `Transfer-Encoding` are never among them: they are illegal on HTTP/2 (RFC 9113, section 8.2.2), and on
HTTP/1.1 they are the server's business.
"""

from __future__ import annotations

from typing import Final

CONTENT_TYPE: Final = "text/event-stream"

STREAM_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # no-transform: a proxy that compresses would also buffer (RFC 9111, section 5.2.2.6).
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx's own switch
)

# Longer than any cursor of ours; what is cut off can't make a bad cursor good.
_MAX_ID: Final = 256


def read_last_event_id(raw: bytes | str) -> str:
    """The text of a `Last-Event-ID` header. Never raises: a client whose cursor is refused is lost for good.

    "A string that ... encoded as UTF-8" (9.2.4): the bytes are UTF-8, though HTTP libraries hand them on as Latin-1.
    What is not UTF-8 becomes U+FFFD; what is longer than any cursor is cut.
    """
    if isinstance(raw, str):
        raw = raw[: 4 * _MAX_ID].encode("latin-1", "replace")
    return raw[: 4 * _MAX_ID].decode("utf-8", "replace")[:_MAX_ID]


def is_event_stream(content_type: str | None) -> bool:
    """Whether a `Content-Type` names an event stream; parameters, `charset` among them, don't count (9.2.3)."""
    return content_type is not None and content_type.partition(";")[0].strip().lower() == CONTENT_TYPE
