"""A run that one process starts and another one produces: `newswire run examples.worker_process:app`, then

curl -N -d 'it comes from another process' localhost:8000/shouts
"""

from __future__ import annotations

import asyncio
import os
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from newswire import Hub
from newswire.runs import RunResponse, Runs

hub = Hub(os.environ.get("SHOUTS_LOG", "sqlite:///shouts.db"))  # the log is all that the two processes share
runs = Runs(hub, public=True)


async def start(request: Request) -> RunResponse:
    text = (await request.body()).decode()
    run = await runs.start("shouts")  # no source: it waits for whoever attaches
    # Stands for your task queue.
    await asyncio.create_subprocess_exec(sys.executable, "-m", "examples.worker_process", run.id, text)
    return runs.response(request, run)


def shout(run_id: str, text: str) -> None:
    """What the worker does. It has no event loop; the block's end is the run's end, and an error makes it `failed`."""
    with runs.sync.attach(run_id) as run:
        for word in run.track(text.split(), "shouting"):
            run.put(f"{word.upper()} ")
        run.put(f"(process {os.getpid()})")


app = Starlette(routes=[Route("/shouts", start, methods=["POST"])])

if __name__ == "__main__":
    shout(*sys.argv[1:])
    hub.sync.close()
