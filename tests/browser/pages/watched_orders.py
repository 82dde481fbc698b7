"""The orders' application, with a route that says how many streams are open: for the test of hidden tabs."""

from __future__ import annotations

from examples.pages.orders import app, hub
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def readers(request: Request) -> JSONResponse:
    return JSONResponse(hub.stats().subscribers)


app.router.routes.insert(0, Route("/readers", readers))
