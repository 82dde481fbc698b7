"""The demo's application: newswire's own server, with one more page."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from newswire.server.app import create_app
from newswire.server.config import load_settings

PAGE = Path(__file__).with_name("page.html")


async def page(request: Request) -> Response:
    """The dashboard."""
    return HTMLResponse(PAGE.read_text())


settings, _ = load_settings({}, os.environ, None)
app = create_app(settings)
app.router.routes.insert(0, Route("/demo", page))
