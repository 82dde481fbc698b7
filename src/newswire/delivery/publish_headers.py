"""What the headers of a request say that publishes its body: whether it is a batch, how long, and under which key.

The server and the integrations call it before they read the body, so that what can't be an event's data is refused
wherever it comes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from newswire.delivery.bodies import content_length
from newswire.delivery.problem import Problem

_NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_KEY_BYTES: Final = 255  # as of `Hub.publish`
_WAIT: Final = re.compile(rb"(?:^|[,; \t])wait=(\d{1,9})(?:$|[,; \t])", re.IGNORECASE)
_WAIT_SECONDS: Final = 60.0  # the longest: then connections that wait are not as many as the outage is long
_CHARSETS: Final = frozenset({"", "utf-8", "utf8", "us-ascii"})


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bool, int | None, str | None, float | None]:
    """Read the headers of a publish request: ASGI's, in lower case.

    Returns:
        whether the body is a batch, its length if that was announced, the `Idempotency-Key`, and for how many seconds
        the client lets the server try again while the log is away (`Prefer: wait=10`, RFC 7240, section 4.3).

    Raises:
        Problem: the body can't be an event's data, or the key is not valid.
    """
    kind = encoding = b""
    announced: int | None = None
    key: str | None = None
    wait: float | None = None
    for name, value in headers:
        if name == b"content-type":
            kind = value
        elif name == b"content-length":
            announced = content_length(value)
        elif name == b"content-encoding":
            encoding = value
        elif name == b"idempotency-key":
            if key is not None or not 0 < len(value.strip()) <= _KEY_BYTES:
                detail = f"Idempotency-Key is one header, of 1 to {_KEY_BYTES} characters. Nothing was stored"
                raise Problem(400, "invalid_idempotency_key", detail)
            key = value.strip().decode("latin-1")
        elif name == b"prefer":
            found = _WAIT.search(value)
            wait = min(float(found[1]), _WAIT_SECONDS) if found else wait
    if encoding and (named := encoding.decode("latin-1").strip().lower()) != "identity":
        detail = f"the body is encoded as {named[:40]!r}: send it as it is, without Content-Encoding"
        raise Problem(415, "unsupported_encoding", detail, headers={"accept-encoding": "identity"})
    if not kind:
        return False, announced, key, wait
    media, _, parameters = kind.decode("latin-1").lower().partition(";")
    media = media.strip()
    if parameters:
        charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "')
        if charset not in _CHARSETS:
            detail = f"the body's charset is {charset[:40]!r}: events are UTF-8"
            raise Problem(415, "unsupported_charset", detail)
    if media.startswith("multipart/"):
        detail = "a multipart body is no event: send the data itself as the body, or a batch as application/x-ndjson"
        raise Problem(415, "unsupported_type", detail)
    return media in _NDJSON, announced, key, wait
