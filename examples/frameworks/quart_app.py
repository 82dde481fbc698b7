"""Quart: hypercorn examples.frameworks.quart_app:app"""

import os

from quart import Quart, Response, request

from newswire import Hub, last_event_id
from newswire.integrations.quart import answer_problems, stream

app = Quart(__name__)
answer_problems(app)
hub = Hub(os.environ.get("NEWSWIRE_LOG", "sqlite:///newswire.db"))


@app.get("/events/<channel>")
async def events(channel: str) -> Response:
    return await stream(hub.subscribe(channel, after=last_event_id(request)))


@app.post("/events/<channel>")
async def publish(channel: str) -> dict[str, str]:
    return {"id": await hub.publish(channel, await request.get_data())}


@app.after_serving
async def close() -> None:
    await hub.close()
