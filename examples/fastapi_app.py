"""The same in FastAPI, with a channel for each room: `newswire run examples.fastapi_app:app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from pydantic import BaseModel

from newswire import EventSourceResponse, Hub, channel, last_event_id

hub = Hub("memory://")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with hub:
        yield


app = FastAPI(lifespan=lifespan)


class Message(BaseModel):
    name: str
    text: str


@app.post("/rooms/{room}")
async def say(room: str, message: Message) -> dict[str, str]:
    return {"id": await hub.publish(channel("room", room), message, event="say")}


@app.get("/rooms/{room}")
async def read(request: Request, room: str) -> EventSourceResponse:
    return EventSourceResponse(hub.subscribe(channel("room", room), after=last_event_id(request), start="earliest"))
