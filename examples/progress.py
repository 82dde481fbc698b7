"""A job that outlives its request, and its progress for whoever asks: `newswire run examples.progress:app`, then

curl -d '' localhost:8000/jobs          # {"job": "…"}
curl -N localhost:8000/jobs/…           # from the beginning, whenever it is asked; again with Last-Event-ID
"""

from __future__ import annotations

import asyncio
import secrets

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from newswire import EventSourceResponse, Hub, last_event_id

hub = Hub("memory://")
running: set[asyncio.Task[None]] = set()


async def work(channel: str, steps: int = 5) -> None:
    for step in range(1, steps + 1):
        await asyncio.sleep(0.05)  # stands for the work
        await hub.publish(channel, {"done": step, "of": steps}, event="progress")
    await hub.publish(channel, {"result": 42}, event="finished")


async def start(request: Request) -> JSONResponse:
    job = secrets.token_hex(4)
    task = asyncio.create_task(work(f"job.{job}"))
    running.add(task)  # the event loop itself holds tasks only weakly
    task.add_done_callback(running.discard)
    return JSONResponse({"job": job})


async def watch(request: Request) -> EventSourceResponse:
    channel = f"job.{request.path_params['job']}"
    return EventSourceResponse(hub.subscribe(channel, after=last_event_id(request), start="earliest"))


app = Starlette(routes=[Route("/jobs", start, methods=["POST"]), Route("/jobs/{job}", watch)])
