"""The client against servers that other people wrote, unchanged: it resumes each by its ids."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Header, Response
from fastapi.sse import EventSourceResponse as FastAPIResponse
from fastapi.sse import ServerSentEvent
from sse_starlette import EventSourceResponse as StarletteResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from tests.fixtures.node import node

HERE = Path(__file__).parent


@contextlib.contextmanager
def uvicorn_serves(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    started = threading.Event()
    startup = server.startup

    async def told(*arguments: Any, **more: Any) -> None:
        await startup(*arguments, **more)
        started.set()

    server.startup = told  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        assert started.wait(20)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


def sse_starlette() -> contextlib.AbstractContextManager[str]:
    """sse-starlette: CRLF line ends, pings as comments followed by a blank line."""

    async def events(request: Request) -> Any:
        start = int(request.headers.get("last-event-id", 0))
        if start >= 6:
            return Response(status_code=204)

        async def some() -> AsyncIterator[dict[str, Any]]:
            for id in range(start + 1, start + 4):
                yield {"comment": "ping"}
                yield {
                    "id": str(id),
                    "event": "even" if id % 2 == 0 else "message",
                    "data": f'{{"text":"žluť\\n{id}"}}',
                }

        return StarletteResponse(some())

    return uvicorn_serves(Starlette(routes=[Route("/", events)]))


def fastapi() -> contextlib.AbstractContextManager[str]:
    """FastAPI's own SSE; it can't answer 204 from a stream's route, so `/` ends by an event."""
    app = FastAPI()

    @app.get("/", response_class=FastAPIResponse)
    async def events(last_event_id: str = Header("0")) -> AsyncIterator[ServerSentEvent]:
        start = int(last_event_id)
        if start >= 6:
            yield ServerSentEvent(data={}, event="newswire.end")
            return
        for id in range(start + 1, start + 4):
            name = "even" if id % 2 == 0 else None
            yield ServerSentEvent(data={"text": f"žluť\n{id}"}, event=name, id=str(id))

    return uvicorn_serves(app)


@contextlib.contextmanager
def better_sse() -> Iterator[str]:
    """npm's better-sse in node."""
    with subprocess.Popen([node(), HERE / "hubs" / "better_sse.mjs"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        finally:
            process.terminate()


@pytest.mark.parametrize("hub", [sse_starlette, fastapi, better_sse], ids=lambda hub: hub.__name__)
def test_resumes(face, hub: Callable[[], contextlib.AbstractContextManager[str]]) -> None:
    """Six events over two connections, each once and in order, and then the server's own end."""
    with hub() as url:
        outcome = face.read(url)
    assert outcome.error is None
    assert outcome.ended
    assert [event.id for event in outcome.events] == ["1", "2", "3", "4", "5", "6"]
    assert [event.event for event in outcome.events] == ["message", "even"] * 3
    assert [event.json() for event in outcome.events] == [{"text": f"žluť\n{id}"} for id in range(1, 7)]
    assert outcome.stats.opened >= 2
