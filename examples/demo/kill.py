"""A button that kills its own server, for pages that show what survives it."""

from __future__ import annotations

import os
import signal

from starlette.requests import Request
from starlette.responses import Response


async def kill(request: Request) -> Response:
    """POST: end this process as `kill -9` does, in the middle of everything."""
    if request.headers.get("x-demo") != "kill":  # a header of one's own: no other site's page can send it
        return Response("say so in the header X-Demo: kill", status_code=403)
    os.kill(os.getpid(), signal.SIGKILL)
    return Response()
