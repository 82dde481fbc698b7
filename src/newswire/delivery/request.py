"""What a request says about where to start, whatever framework it comes from."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from newswire.wire.headers import read_last_event_id

CURSOR: Final = "last_event_id"
"""The query parameter of a cursor, as our pages write it. `is_cursor` knows the other spellings."""

_NAME: Final = re.compile(rb"(?:evs_)?last[-_]?event[-_]?id", re.IGNORECASE)
_CURSOR: Final = re.compile(rb"(?:^|&)(?:evs_)?last(?:[-_]|%2d|%5f)?event(?:[-_]|%2d|%5f)?id=([^&]+)", re.IGNORECASE)
# The end of a query that is searched: a position has some 20 bytes, and clients add it to the end of their URL.
_SEARCHED: Final = 64 * 2**10


def last_event_id(request: Any) -> str | None:
    """The cursor that a client sent: the `Last-Event-ID` header, else the query parameter `last_event_id`.

    A native EventSource sends the header when it reconnects but can't at first: a page that knows where it left off
    puts the cursor in the URL. Polyfills do so each time, and every one spells it in its own way: `lastEventId`,
    `last-event-id`, `Last-Event-ID`, `lastEventID` and `evs_last_event_id` are read too. They add it behind what the
    page wrote, so of several the last one counts that is not empty. Never raises, whatever the bytes.

    Args:
        request: a request of any web framework, or an ASGI scope, or a WSGI environ.

    Returns:
        the text of the cursor; None if there is none, or an empty one.

    Raises:
        TypeError: it is nothing of these.
    """
    header, query = _header_and_query(request)
    if header is not None:
        return read_last_event_id(header) or None
    if not query:
        return None
    values = _CURSOR.findall(query[-_SEARCHED:])
    return read_last_event_id(unquote_to_bytes(values[-1].replace(b"+", b" "))) or None if values else None


def _header_and_query(request: Any) -> tuple[bytes | str | None, bytes]:
    scope = request if isinstance(request, dict) else _scope_of(request)
    if isinstance(scope, dict) and "QUERY_STRING" not in scope:
        query = scope.get("query_string") or b""
        for name, value in scope.get("headers", ()):
            if name.lower() == b"last-event-id":
                return value, query
        return None, query
    # WSGI, where a request has its environ by one of two names; then Sanic and aiohttp.
    environ = scope or getattr(request, "environ", None) or getattr(request, "META", None)
    if isinstance(environ, dict):
        return environ.get("HTTP_LAST_EVENT_ID"), environ.get("QUERY_STRING", "").encode("latin-1", "replace")
    headers, url = getattr(request, "headers", None), getattr(request, "rel_url", None)
    query = getattr(request, "query_string", None) if url is None else url.raw_query_string  # Sanic, and aiohttp
    if headers is None or not isinstance(query, str):
        raise TypeError(
            f"a {type(request).__name__} is no request that newswire knows: pass its ASGI scope, its WSGI environ, or "
            "give `after` what its Last-Event-ID header says"
        )
    text = headers.get("Last-Event-ID")
    return None if text is None else text.encode("utf-8", "surrogateescape"), query.encode()


def _scope_of(request: Any) -> Any:
    try:
        return getattr(request, "scope", None)
    except NotImplementedError:  # Sanic's, on its own server
        return None


def is_cursor(name: bytes) -> bool:
    """Whether a query parameter of this name, percent-decoded, is a cursor in one of its spellings."""
    return _NAME.fullmatch(name) is not None
