"""Runs over HTTP, on a real uvicorn with the direct path: who may read what, from where, and what the answers say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import anyio
import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from newswire import Hub, StreamOptions
from newswire.client import AsyncEventSource
from newswire.errors import RunNotFound
from newswire.runs import ANYONE, RunOptions, Runs, WorkerOptions
from newswire.wire import Decoder, Event

pytestmark = pytest.mark.anyio

SECRET = "the secret of alice"


async def words(count: int, pause: float = 0.0) -> AsyncIterator[str]:
    for number in range(count):
        await asyncio.sleep(pause)
        yield f"{number} "


class App:
    """An application with runs: the user is what the header `x-user` says."""

    def __init__(self, stream: StreamOptions) -> None:
        self.hub = Hub()
        self.runs = Runs(self.hub, public=True, worker=WorkerOptions(lease=1), stream=stream)
        self.started = 0
        self.app = Starlette(
            routes=[
                Route("/answers", self.start, methods=["POST"]),
                Route("/accepted", self.accepted, methods=["POST"]),
                Route("/answers/{run_id}", self.read),
                Route("/answers/{run_id}/active", self.active),
                Route("/answers/{run_id}", self.stop, methods=["DELETE"]),
            ]
        )
        self.url = ""

    async def words(self, count: int, pause: float) -> AsyncIterator[str]:
        self.started += 1
        async for word in words(count, pause):
            yield word

    async def start(self, request: Request) -> Response:
        query = request.query_params
        run = await self.runs.start(
            "answer",
            self.words(int(query.get("count", 5)), float(query.get("pause", 0))),
            key=query.get("key"),
            owner=request.headers.get("x-user"),
        )
        return self.runs.response(request, run, status_code=int(query.get("status", 200)), dialect=query.get("dialect"))  # type: ignore[return-value]

    async def accepted(self, request: Request) -> Response:
        return self.runs.accepted(request, await self.runs.start("answer", words(3)))  # type: ignore[return-value]

    async def read(self, request: Request) -> Response:
        return self.runs.response(  # type: ignore[return-value]
            request,
            request.path_params["run_id"],
            owner=request.headers.get("x-user"),
            dialect=request.query_params.get("dialect"),
        )

    async def active(self, request: Request) -> Response:
        return self.runs.response(request, request.path_params["run_id"], active=True, dialect="ai-sdk")  # type: ignore[return-value]

    async def stop(self, request: Request) -> Response:
        stopped = await self.runs.stop(request.path_params["run_id"], owner=request.headers.get("x-user"))
        return JSONResponse({"stopped": stopped})


@asynccontextmanager
async def serving(stream: StreamOptions = StreamOptions(heartbeat=0.2)) -> AsyncIterator[App]:  # noqa: B008
    made = App(stream)
    config = uvicorn.Config(
        made.app, port=0, log_level="warning", lifespan="off", http="newswire.delivery.uvicorn:DirectHttpProtocol"
    )
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[method-assign]
    async with made.hub, made.runs:
        task = asyncio.create_task(server.serve())
        while not server.started:  # uvicorn has no event for it
            await asyncio.sleep(0.01)
        made.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            yield made
        finally:
            server.should_exit = True
            await made.hub.shutdown(grace=1)
            await task


@pytest.fixture
async def app() -> AsyncIterator[App]:
    async with serving() as made:
        yield made


@pytest.fixture
async def client(app: App) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=app.url, timeout=20) as made:
        yield made


def events_of(answer: httpx2.Response) -> list[Event]:
    return list(Decoder().decode([answer.content]))


async def test_post_starts_and_get_goes_on(app: App, client: httpx2.AsyncClient) -> None:
    """The POST's answer is the first reader and says where the run is; a GET there gives the same, from any cursor."""
    first = await client.post("/answers?key=k")
    place = first.headers["content-location"]
    assert "location" not in first.headers
    events = events_of(first)
    assert [event.data for event in events[:-1]] == [f"{number} " for number in range(5)]
    assert events[-1].event == "newswire.end"
    for number, event in enumerate(events[:-1], 1):
        again = await client.get(place, headers={"last-event-id": event.id or ""})
        assert events_of(again) == events[number:]
        by_query = await client.get(place, params={"last_event_id": event.id or ""})
        assert events_of(by_query) == events[number:]
    assert (await client.post("/answers?key=k")).headers["content-location"] == place
    assert app.started == 1


async def test_compressed() -> None:
    """A run's stream is whole, with a right trailer, live and read again; as it is stored, and in a dialect."""
    async with serving(StreamOptions(compress=True)) as app, httpx2.AsyncClient(base_url=app.url, timeout=20) as client:
        for dialect in ("", "ai-sdk"):
            query = {"dialect": dialect} if dialect else {}
            first = await client.post("/answers", params={**query, "count": "300"})
            place = first.headers["content-location"]
            again = await client.get(place, params=query)
            plain = await client.get(place, params=query, headers={"accept-encoding": "identity"})
            assert first.headers["content-encoding"] == again.headers["content-encoding"] == "gzip"
            assert "content-encoding" not in plain.headers
            assert events_of(again) == events_of(plain)
            assert events_of(first)[-1] == events_of(plain)[-1]
            assert again.num_bytes_downloaded < len(plain.content)


@pytest.mark.slow
@pytest.mark.parametrize("status", [201, 202])
async def test_created_says_location_too(app: App, client: httpx2.AsyncClient, status: int) -> None:
    """With 201 and 202, `Location` says where the run is, as `Content-Location` does."""
    answer = await client.post(f"/answers?status={status}")
    assert answer.status_code == status
    assert answer.headers["location"] == answer.headers["content-location"]
    assert (await client.get(answer.headers["location"])).status_code == 200


async def test_accepted(app: App, client: httpx2.AsyncClient) -> None:
    """A POST may be answered at once with where to read."""
    answer = await client.post("/accepted")
    assert answer.status_code == 202
    assert answer.json()["location"] == answer.headers["location"]
    assert answer.json()["id"] in answer.headers["location"]


async def test_a_reader_at_the_end_gets_204(app: App, client: httpx2.AsyncClient) -> None:
    """A reader that has the last event hears that there is no more, which makes an EventSource stop for good."""
    first = await client.post("/answers")
    last = events_of(first)[-1].id or ""
    place = first.headers["content-location"]
    for more in ({"last-event-id": last}, {"last-event-id": str(await app.hub.publish("later", "x"))}):
        answer = await client.get(place, headers=more)
        assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(("dialect", "status"), [("native", 204), ("openai-chat", 200), ("ai-sdk", 200)])
async def test_a_post_at_the_end(client: httpx2.AsyncClient, dialect: str, status: int) -> None:
    """Clients of other formats would take no content for an empty answer: they get the whole again."""
    query = {"key": "k", "dialect": dialect}
    first = await client.post("/answers", params=query)
    last = events_of(first)[-1].id or ""
    again = await client.post("/answers", params=query, headers={"last-event-id": last})
    assert again.status_code == status
    if status == 200:
        assert events_of(again)[-1] == events_of(first)[-1]
        assert "0 1 2 3 4 " in again.text


async def test_head_gets_the_head_alone(app: App, client: httpx2.AsyncClient) -> None:
    """HEAD says what GET would, and opens no stream."""
    place = (await client.post("/answers")).headers["content-location"]
    answer = await client.head(place)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (await client.head("/answers/none")).status_code == 404


@pytest.mark.slow
async def test_our_client_starts_by_post_and_goes_on_by_get(app: App) -> None:
    """An event source that POSTs is cut in the middle, goes on with GET at the given place, and the run began
    once."""
    source = AsyncEventSource(f"{app.url}/answers?count=30&pause=0.02", method="POST")
    data = []
    async with source:
        async for event in source:
            data.append(event.data)
            if len(data) == 10:
                live = await app.hub.open()
                for member in list(live.members):
                    if "out" in repr(member):
                        member.cut()
    assert data == [f"{number} " for number in range(30)]
    assert app.started == 1


async def test_active_is_204_where_nothing_goes_on(app: App, client: httpx2.AsyncClient) -> None:
    """Asked at each page load, a chat that has no answer under way says 204: none, finished, or somebody else's."""
    assert (await client.get("/answers/none/active")).status_code == 204
    done = (await client.post("/answers")).headers["content-location"]
    assert (await client.get(f"{done}/active")).status_code == 204
    theirs = await app.runs.start("theirs", words(100, 0.05), owner="bob")
    assert (await client.get(f"/answers/{theirs.id}/active")).status_code == 204
    ours = await app.runs.start("ours", words(100, 0.05))
    async with client.stream("GET", f"/answers/{ours.id}/active") as answer:
        assert answer.status_code == 200
        assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    by_name = await client.get("/answers/theirs/active")
    assert by_name.status_code == 204
    await theirs.stop()


TRICKS = {
    "no user": {},
    "another user": {"x-user": "bob"},
    "an empty user": {"x-user": ""},
    "a user in other letters": {"x-user": "ALICE"},
    "a user with a space": {"x-user": "alice bob"},
    "everybody's sign": {"x-user": "anyone"},
    "a wildcard": {"x-user": "*"},
    "a cursor of hers": {"x-user": "bob", "last-event-id": "%CURSOR%"},
    "an empty cursor": {"x-user": "bob", "last-event-id": ""},
    "a cursor of another log": {"x-user": "bob", "last-event-id": "zzzzzzzz-1"},
    "garbage for a cursor": {"x-user": "bob", "last-event-id": "../%00*"},
    "a cursor that injects": {"x-user": "bob", "last-event-id": "1, x-user: alice"},
}
PATHS = {
    "the run": "/answers/%ID%",
    "with a cursor in the query": "/answers/%ID%?last_event_id=%CURSOR%",
    "with an owner in the query": "/answers/%ID%?owner=alice&x-user=alice",
    "with a channel in the query": "/answers/%ID%?channel=$runs.out.%ID%",
    "in a dialect": "/answers/%ID%?dialect=openai-chat&last_event_id=%CURSOR%",
    "its name": "/answers/answer",
    "its record": "/answers/$runs.run.%ID%",
    "its events' channel": "/answers/$runs.out.%ID%",
    "all": "/answers/*",
    "all below": "/answers/answer.%3E",
    "a part of its id": "/answers/%PART%",
}


@pytest.mark.slow
@pytest.mark.parametrize("headers", TRICKS.values(), ids=TRICKS.keys())
async def test_nobody_else_reads_a_run(app: App, client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    """To anybody but its owner a run does not exist, by whatever header, query, cursor or name: 404 with the same words
    as for a run that never was, and nothing of what it says."""

    async def secret() -> AsyncIterator[str]:
        yield SECRET
        await asyncio.sleep(20)

    run = await app.runs.start("answer", secret(), owner="alice", key="k", options=RunOptions(keep_for=60))
    cursor = ""
    async for event in run.subscribe():
        cursor = event.id or ""
        break
    before = str(app.hub.epoch) + "-1"

    def filled(text: str) -> str:
        return text.replace("%ID%", run.id).replace("%CURSOR%", before).replace("%PART%", run.id[:-1])

    none = await client.get("/answers/none")
    asked = {name: filled(value).replace(before, cursor) for name, value in headers.items()}
    for name, path in PATHS.items():
        with anyio.fail_after(20):
            answer = await client.get(filled(path), headers=asked)
        assert answer.status_code == 404, name
        assert answer.json() == none.json(), name
        assert SECRET.encode() not in answer.content, name
        assert run.id not in answer.text, name
    stop = await client.delete(f"/answers/{run.id}", headers=asked)
    assert stop.status_code != 200
    assert await run.state() == "running"
    await run.stop()


async def test_anyone_is_no_name(app: App) -> None:
    """What lets the application find anyone's run is no text that a request could give."""
    run = await app.runs.start("answer", words(3), owner="alice")
    assert (await app.runs.get(run.id, owner=ANYONE)).id == run.id
    for text in (str(ANYONE), "".join(ANYONE), repr(ANYONE), "\0anyone"):
        with pytest.raises(RunNotFound):
            await app.runs.get(run.id, owner=text)
    with pytest.raises(ValueError, match="ANYONE is for finding"):
        await app.runs.start("answer", words(1), owner=ANYONE)


async def test_its_owner_reads_it(app: App, client: httpx2.AsyncClient) -> None:
    """What is refused above is given to the one whose it is."""
    run = await app.runs.start("answer", words(3), owner="alice")
    answer = await client.get(f"/answers/{run.id}", headers={"x-user": "alice"})
    assert [event.data for event in events_of(answer)[:-1]] == ["0 ", "1 ", "2 "]


async def test_one_owners_key_attaches_nobody_else(app: App, client: httpx2.AsyncClient) -> None:
    """The same idempotency key by two users makes two runs."""
    answers = [await client.post("/answers?key=k", headers={"x-user": user}) for user in ("alice", "bob", "alice")]
    places = [answer.headers["content-location"] for answer in answers]
    assert places[0] == places[2] != places[1]
    assert app.started == 2


@pytest.mark.slow
async def test_heartbeats_stand_between_blocks(app: App, client: httpx2.AsyncClient) -> None:
    """A quiet run is kept alive by comments of one line each, in a dialect too, and they disturb no block."""
    seen = b""
    async with client.stream("POST", "/answers?count=2&pause=0.7&dialect=openai-chat") as answer:
        async for chunk in answer.aiter_raw():
            seen += chunk
    assert b"\n\n:\n" in seen
    assert b":\n\n" not in seen
    for block in seen.replace(b":\n", b"").split(b"\n\n"):
        assert not block or b"data: " in block
    assert seen.endswith(b"data: [DONE]\n\n")


async def test_a_server_that_stops_says_so_in_the_dialect(app: App, client: httpx2.AsyncClient) -> None:
    """A stream that ends before its run does never looks like a whole answer: native clients come back,
    those of a dialect get its error."""
    run = await app.runs.start("answer", words(1000, 0.02))

    async def read(query: str) -> str:
        async with client.stream("GET", f"/answers/{run.id}{query}") as answer:
            return (await answer.aread()).decode()

    reading = [asyncio.create_task(read(query)) for query in ("", "?dialect=openai-chat", "?dialect=anthropic")]
    while app.hub.stats().subscribers < 4:  # three readers, and the watch
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    live = await app.hub.open()
    live.goodbye_all()
    native, chat, anthropic = await asyncio.gather(*reading)
    assert "event: newswire.goodbye" in native
    assert '"error"' in chat
    assert "event: error" in anthropic
    assert "newswire.goodbye" not in chat + anthropic
    await run.stop()
