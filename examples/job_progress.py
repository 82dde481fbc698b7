"""A job that outlives its request, and its progress for whoever asks: `newswire run examples.job_progress:app`, then

curl -d '' localhost:8000/jobs          # 202: {"id": "…", "location": "/jobs/…"}
curl -N localhost:8000/jobs/…           # progress, then the end with the result; again with Last-Event-ID
"""

from __future__ import annotations

import hashlib
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from newswire import Hub
from newswire.runs import RunAccepted, RunResponse, Runs, RunWriter

runs = Runs(Hub("memory://"), public=True)


def work(run: RunWriter, pages: int) -> dict[str, str]:
    """Runs in a thread of its own, since it is not async."""
    digest = hashlib.sha256()
    for page in run.track(range(pages), "hashing"):
        time.sleep(0.06)  # stands for the work
        digest.update(bytes([page]))
    return {"sha256": digest.hexdigest()}


async def start(request: Request) -> RunAccepted:
    run = await runs.start("jobs", work, args={"pages": 5})
    return runs.accepted(request, run)


async def watch(request: Request) -> RunResponse:
    return runs.response(request, request.path_params["id"])


app = Starlette(routes=[Route("/jobs", start, methods=["POST"]), Route("/jobs/{id}", watch)])
