"""The HTTP headers of event streams, for responses and for clients.

`Connection` and `Transfer-Encoding` are never among them. They are illegal on HTTP/2 (RFC 9113, section 8.2.2), and on
HTTP/1.1 the server sets them.
"""

from __future__ import annotations

import re
from typing import Final

CONTENT_TYPE: Final = "text/event-stream"

STREAM_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # no-transform, since a proxy that compresses would also buffer (RFC 9111, section 5.2.2.6).
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx's own switch
    (b"incremental", b"?1"),  # for proxies that know draft-ietf-httpbis-incremental: pass on each part as it comes
)

# RFC 9110, section 12.4.2: "A sender of qvalue MUST NOT generate more than three digits after the decimal point."
_QUALITY: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)
# Longer than any cursor of newswire's, so cutting never changes a good one.
_MAX_ID: Final = 256


def read_last_event_id(raw: bytes | str | None) -> str:
    """Returns the text of a `Last-Event-ID` header; empty if there is none (None). Whatever a client sends, it does not
    raise: a browser that gets an error never comes back.

    "A string that ... encoded as UTF-8" (9.2.4): the bytes are UTF-8, though HTTP libraries pass them on as Latin-1.
    Bytes that are not UTF-8 become U+FFFD, and a text that is longer than any cursor is cut.
    """
    if raw is None:
        return ""
    if isinstance(raw, str):
        raw = raw[: 4 * _MAX_ID].encode("latin-1", "replace")
    return raw[: 4 * _MAX_ID].decode("utf-8", "replace")[:_MAX_ID]


def is_event_stream(content_type: str | None) -> bool:
    """Whether a `Content-Type` names an event stream. Parameters such as `charset` don't count (9.2.3)."""
    return content_type is not None and content_type.partition(";")[0].strip().lower() == CONTENT_TYPE


def takes_gzip(accept_encoding: str | None) -> bool:
    """Whether an answer to a request with this `Accept-Encoding` may be gzip. Text that can't be read takes nothing.

    "A content coding is acceptable if it is listed, unless it is accompanied by a qvalue of 0" (RFC 9110, section
    12.5.3); `*` stands for all that are not listed. gzip is sent also to a client that likes another one better.
    """
    found: dict[str, float] = {}
    for part in (accept_encoding or "").lower().split(","):
        coding, *parameters = (each.strip() for each in part.split(";"))
        quality = _QUALITY.fullmatch(parameters[0]) if parameters else _QUALITY.fullmatch("q=1")
        if coding and quality is not None and len(parameters) < 2:
            found["gzip" if coding == "x-gzip" else coding] = float(quality[1])
    gzip = found.get("gzip", found.get("*", 0.0))
    return gzip > 0 and gzip >= found.get("identity", 0.0)
