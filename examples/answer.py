"""An answer that outlives its request: `newswire run examples.answer:app`, then

curl -iN -d 'it comes word by word' localhost:8000/answers    # Content-Location says where it can be read again
curl -N localhost:8000/answers/…                              # live or finished; with Last-Event-ID, from there on
curl -X DELETE localhost:8000/answers/…                       # stop it: a client that leaves stops nothing
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from newswire import Hub
from newswire.runs import RunResponse, Runs

# sqlite:///runs.db to remember, and for many processes. public: a run's id is enough to read and stop it; else: owner=…
runs = Runs(Hub("memory://"), public=True)


async def tokens(text: str) -> AsyncIterator[str]:
    for word in text.split():
        await asyncio.sleep(0.05)  # stands for a model
        yield word + " "


async def start(request: Request) -> RunResponse:
    text = (await request.body()).decode()
    run = await runs.start("answers", tokens(text), key=request.headers.get("idempotency-key"))
    return runs.response(request, run)


async def go_on(request: Request) -> RunResponse:
    return runs.response(request, request.path_params["id"])


async def stop(request: Request) -> JSONResponse:
    return JSONResponse({"stopped": await runs.stop(request.path_params["id"])})


app = Starlette(routes=[Route("/answers", start, methods=["POST"]), Route("/answers/{id}", go_on)])
app.add_route("/answers/{id}", stop, methods=["DELETE"])
