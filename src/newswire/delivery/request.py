"""What a request says about where to start, whatever framework it comes from."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from newswire.wire.headers import read_last_event_id


def last_event_id(request: Any) -> str | None:
    """The cursor that a client sent: the `Last-Event-ID` header, else the query parameter `last_event_id`.

    A native EventSource sends the header when it reconnects but can't at first: a page that knows where it left off
    puts the cursor in the URL. Never raises, whatever the bytes.

    Args:
        request: a Starlette or FastAPI request, or an ASGI scope.

    Returns:
        the text of the cursor; None if there is none, or an empty one.
    """
    scope = request if isinstance(request, dict) else request.scope
    for name, value in scope.get("headers", ()):
        if name.lower() == b"last-event-id":
            return read_last_event_id(value) or None
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), errors="replace")
    values = query.get("last_event_id")
    return read_last_event_id(values[0].encode("utf-8", "replace")) or None if values else None
