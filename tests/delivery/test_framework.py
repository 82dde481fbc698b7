"""FastAPI takes newswire's responses for its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import BackgroundTasks, FastAPI, Request

from newswire import Decoder, EventSourceResponse, Hub, last_event_id
from newswire.runs import Runs
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio


async def words() -> AsyncIterator[str]:
    yield "one"
    yield "two"


async def test_a_route_returns_a_stream() -> None:
    """The example of the documentation works as it stands: an ordinary `@app.get`, cookies and background tasks too."""
    app = FastAPI()
    hub = Hub()
    done = []

    @app.get("/words")
    async def route(tasks: BackgroundTasks):  # type: ignore[no-untyped-def]
        tasks.add_task(done.append, "background")
        response = EventSourceResponse(words())
        response.set_cookie("seen", "yes")  # type: ignore[attr-defined]
        return response

    @app.get("/news")
    async def news(request: Request):  # type: ignore[no-untyped-def]
        return EventSourceResponse(hub.subscribe("news", after=last_event_id(request), start="earliest"))

    async with hub, asgi_client(app) as client:
        answer = await client.get("http://app/words")
        assert [event.data for event in Decoder().decode([answer.content])] == ["one", "two"]
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.cookies["seen"] == "yes"
        assert done == ["background"]
        await hub.publish("news", "hello")
        async with client.stream("GET", "http://app/news") as stream:
            async for chunk in stream.aiter_bytes():
                if b"data: hello" in chunk:
                    break


async def test_a_route_returns_a_run() -> None:
    """So do runs, started by POST and read by GET, each with a header of the application's."""
    app = FastAPI()
    hub = Hub()
    runs = Runs(hub, public=True)

    @app.post("/answers")
    async def start(request: Request):  # type: ignore[no-untyped-def]
        run = await runs.start("answer", words())
        return runs.response(request, run, status_code=201, headers={"X-Mine": "1"})

    @app.get("/answers/{run_id}")
    async def read(request: Request, run_id: str):  # type: ignore[no-untyped-def]
        return runs.response(request, run_id)

    async with hub, asgi_client(app) as client:
        first = await client.post("http://app/answers")
        assert first.status_code == 201
        assert first.headers["x-mine"] == "1"
        assert first.headers["location"] == first.headers["content-location"]
        again = await client.get(f"http://app{first.headers['location']}")
        assert [event.data for event in Decoder().decode([again.content])] == [
            event.data for event in Decoder().decode([first.content])
        ]
