"""Sanic: sanic examples.frameworks.sanic_app:app --single-process"""

import os
from typing import Any

from sanic import Sanic, json

from newswire import Hub, last_event_id
from newswire.integrations.sanic import answer_problems, stream

app = Sanic("newswire")
answer_problems(app)
hub = Hub(os.environ.get("NEWSWIRE_LOG", "sqlite:///newswire.db"))


@app.route("/events/<channel>", unquote=True)  # else the channel is "b%C3%A4r" where the client means "bär"
async def events(request: Any, channel: str) -> None:
    await stream(request, hub.subscribe(channel, after=last_event_id(request)))


@app.route("/events/<channel>", methods=["POST"], unquote=True)
async def publish(request: Any, channel: str) -> Any:
    return json({"id": await hub.publish(channel, request.body)})


@app.before_server_stop
async def close(app: Any) -> None:
    await hub.close()
