"""`newswire_app` inside `StreamMiddleware`: on the ASGI path, streams that don't keep Starlette's frames."""

from __future__ import annotations

from benchmarks.servers.newswire_app import app as inner
from newswire.delivery.middleware import StreamMiddleware

app = StreamMiddleware(inner)
