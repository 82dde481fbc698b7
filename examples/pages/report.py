"""A report that takes a while: its progress for whoever looks, and the download at its end.

The rows are the text of a run, so the log has all that is done. A refresh reads on, a killed worker's successor goes on
after the last row, and the download needs no file: `newswire run examples.pages.report:app`.
"""

from __future__ import annotations

import ast
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from newswire import Hub
from newswire.browser import FILES
from newswire.errors import RunNotFound
from newswire.runs import RunAccepted, RunOptions, RunResponse, Runs, RunWriter, WorkerOptions

PACE: Final = float(os.environ.get("REPORT_PACE", "0.02"))  # seconds a module: real reports take longer
MODULES: Final = sorted(Path(os.__file__).parent.glob("[a-z]*.py"))

hub = Hub("sqlite:///report.db")
runs = Runs(hub, public=True, worker=WorkerOptions(lease=2, path="/runs/{id}"), options=RunOptions(takeover=True))


def measure(module: Path) -> str:
    """A row of the report: a module's name, lines, functions and classes."""
    source = module.read_bytes()
    kinds = [type(node) for node in ast.walk(ast.parse(source))]
    functions = kinds.count(ast.FunctionDef) + kinds.count(ast.AsyncFunctionDef)
    return f"{module.name},{len(source.splitlines())},{functions},{kinds.count(ast.ClassDef)}\n"


@runs.producer
async def report(run: RunWriter) -> dict[str, int]:
    """Measure the standard library, from the first module that has no row yet."""
    done = (await run.text()).count("\n") if run.taken_over else 0
    for number, module in enumerate(MODULES[done:], start=done + 1):
        await run.write(await asyncio.to_thread(measure, module))
        run.progress(number, len(MODULES), module.name)
        await asyncio.sleep(PACE)
    return {"modules": len(MODULES)}


async def start(request: Request) -> RunAccepted:
    """Start a report, or find the one that a request with the same key has started."""
    return runs.accepted(request, await runs.start("report", report, key=request.headers.get("idempotency-key")))


async def read(request: Request) -> RunResponse:
    return runs.response(request, request.path_params["id"])


async def stop(request: Request) -> JSONResponse:
    return JSONResponse({"stopped": await runs.stop(request.path_params["id"])})


async def download(request: Request) -> Response:
    """The rows so far, as a file."""
    try:
        rows = await (await runs.get(request.path_params["id"])).text()
    except RunNotFound as error:
        return Response(str(error), 404)
    disposition = 'attachment; filename="standard-library.csv"'
    content = f"module,lines,functions,classes\n{rows}"
    return Response(content, media_type="text/csv", headers={"content-disposition": disposition})


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with hub, runs:  # goes on with what a killed process has left
        yield


app = Starlette(
    routes=[
        Route("/", lambda request: FileResponse(Path(__file__).with_suffix(".html"))),
        Route("/runs", start, methods=["POST"]),
        Route("/runs/{id}", read),
        Route("/runs/{id}/stop", stop, methods=["POST"]),
        Route("/runs/{id}/report.csv", download),
        *(Route(path, file) for path, file in FILES.items()),
    ],
    lifespan=lifespan,
)
