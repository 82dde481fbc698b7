"""aiohttp: python -m aiohttp.web --port 8000 examples.frameworks.aiohttp_app:make_app"""

import os

from aiohttp import web

from newswire import Hub, last_event_id
from newswire.integrations.aiohttp import problems, stream

hub = Hub(os.environ.get("NEWSWIRE_LOG", "sqlite:///newswire.db"))


async def events(request: web.Request) -> web.StreamResponse:
    channel = request.match_info["channel"]
    return await stream(request, hub.subscribe(channel, after=last_event_id(request)))


async def publish(request: web.Request) -> web.Response:
    return web.json_response({"id": await hub.publish(request.match_info["channel"], await request.read())})


async def close(app: web.Application) -> None:
    await hub.close()


def make_app(arguments: list[str]) -> web.Application:
    app = web.Application(middlewares=[problems])
    app.router.add_get("/events/{channel}", events)
    app.router.add_post("/events/{channel}", publish)
    app.on_cleanup.append(close)
    return app
