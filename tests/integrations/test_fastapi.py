"""FastAPI's documented way to stream, with its names imported from newswire; and a hub behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import fastapi.routing
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.exceptions import ResponseValidationError
from fastapi.testclient import TestClient
from pydantic import BaseModel, ValidationError
from tests.fixtures.asgi_request import first_events

import newswire
from newswire import Decoder, Hub, last_event_id
from newswire.delivery.drain import drain_of
from newswire.integrations.fastapi import (
    KEEPALIVE_COMMENT,
    EventSourceResponse,
    ServerSentEvent,
    events,
    format_sse_event,
    lifespan,
)
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio
PATIENCE = 20.0


class Item(BaseModel):
    name: str
    price: float | None = None


@dataclass
class Plain:
    name: str


ITEMS = [Item(name="pen", price=1.5), Item(name="ink")]
app = FastAPI()


@app.get("/async", response_class=EventSourceResponse)
async def with_async() -> AsyncIterable[Item]:
    for item in ITEMS:
        yield item


@app.get("/sync", response_class=EventSourceResponse)
def with_sync() -> Iterable[Item]:
    yield from ITEMS


@app.get("/untyped", response_class=EventSourceResponse)
async def untyped():  # type: ignore[no-untyped-def]
    yield ITEMS[0]
    yield {"a": [1, None]}
    yield "text"
    yield 7
    yield Plain("x")


@app.get("/untyped-sync", response_class=EventSourceResponse)
def untyped_sync():  # type: ignore[no-untyped-def]
    yield {"a": 1}


@app.get("/typed-wrong", response_class=EventSourceResponse)
async def wrong() -> AsyncIterable[Item]:
    yield {"name": ["no", "text"]}  # type: ignore[misc]


@app.get("/fields", response_class=EventSourceResponse)
async def fields() -> AsyncIterable[ServerSentEvent]:
    yield ServerSentEvent(comment="opened")
    yield ServerSentEvent(data=ITEMS[0], event="item", id="1", retry=5000)
    yield ServerSentEvent(data="quoted")
    yield ServerSentEvent(raw_data="[DONE]")
    yield ServerSentEvent(raw_data="two\r\nlines\n", event="log")
    yield ServerSentEvent(event="empty")


@app.get("/mixed", response_class=EventSourceResponse)
async def mixed() -> AsyncIterable[Item]:
    yield ITEMS[0]
    yield ServerSentEvent(data={"any": "thing"}, event="other")  # type: ignore[misc]


@app.get("/resume", response_class=EventSourceResponse)
async def resume(last: Annotated[int | None, Header(alias="Last-Event-ID")] = None) -> AsyncIterable[ServerSentEvent]:
    for number in range(0 if last is None else last + 1, 3):
        yield ServerSentEvent(data=number, id=str(number))


@app.post("/post", response_class=EventSourceResponse)
async def post(item: Item) -> AsyncIterable[Item]:
    yield item


async def more(response: fastapi.Response) -> None:
    response.headers["X-More"] = "1"


@app.get("/headers", response_class=EventSourceResponse, status_code=202, dependencies=[Depends(more)])
async def headers() -> AsyncIterable[str]:
    yield "x"


closed: list[str] = []


async def resource() -> AsyncIterator[str]:
    yield "resource"
    closed.append("resource")


@app.get("/depends", response_class=EventSourceResponse)
async def depends(found: Annotated[str, Depends(resource)]) -> AsyncIterable[str]:
    assert not closed
    yield found


async def refused() -> None:
    raise HTTPException(403, "not you")


@app.get("/refused", response_class=EventSourceResponse, dependencies=[Depends(refused)])
async def never() -> AsyncIterable[str]:
    yield "never"


@app.get("/quiet", response_class=EventSourceResponse)
async def quiet() -> AsyncIterable[str]:
    await asyncio.sleep(0.3)
    yield "late"


@app.get("/quiet-sync", response_class=EventSourceResponse)
def quiet_sync() -> Iterable[str]:
    import time

    time.sleep(0.3)
    yield "late"


router = fastapi.APIRouter(prefix="/router", default_response_class=EventSourceResponse)


@router.get("/async")
async def routed() -> AsyncIterable[Item]:
    for item in ITEMS:
        yield item


app.include_router(router)


@pytest.fixture
def client() -> Iterable[TestClient]:
    with TestClient(app) as client:
        yield client


# -- what a route yields


@pytest.mark.parametrize("path", ["/async", "/sync", "/router/async"])
def test_models(client: TestClient, path: str) -> None:
    """Each is an event with its JSON, as the return type says."""
    answer = client.get(path)
    assert answer.text == 'data: {"name":"pen","price":1.5}\n\ndata: {"name":"ink","price":null}\n\n'
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"


def test_without_a_return_type(client: TestClient) -> None:
    """What the JSON encoder makes of it; a text is quoted."""
    data = [event.data for event in Decoder().feed(client.get("/untyped").content)]
    assert data == ['{"name": "pen", "price": 1.5}', '{"a": [1, null]}', '"text"', "7", '{"name": "x"}']
    assert client.get("/untyped-sync").text == 'data: {"a": 1}\n\n'


def test_fields_of_an_event(client: TestClient) -> None:
    """Every field, data as JSON or raw, comments."""
    text = client.get("/fields").text
    assert text.startswith(": opened\n\n")
    decoder = Decoder()
    found = [(event.event, event.data, event.id) for event in decoder.feed(text.encode())]
    assert found == [
        ("item", '{"name":"pen","price":1.5}', "1"),
        ("message", '"quoted"', "1"),
        ("message", "[DONE]", "1"),
        ("log", "two\nlines\n", "1"),
    ]
    assert "retry: 5000\n" in text
    assert text.endswith("event: empty\n\n")


def test_events_among_models(client: TestClient) -> None:
    """They are not held to the return type."""
    assert client.get("/mixed").text.endswith('event: other\ndata: {"any": "thing"}\n\n')


def test_an_item_that_breaks_the_return_type(client: TestClient) -> None:
    """Is an error of the server."""
    with pytest.raises((ResponseValidationError, ExceptionGroup)):
        client.get("/typed-wrong")


def test_resume_by_header(client: TestClient) -> None:
    """`Last-Event-ID` is a header like any other."""
    assert client.get("/resume").text.count("data: ") == 3
    assert client.get("/resume", headers={"Last-Event-ID": "1"}).text == "data: 2\nid: 2\n\n"
    assert client.get("/resume", headers={"Last-Event-ID": "x"}).status_code == 422


def test_any_method(client: TestClient) -> None:
    """With a body that is validated first."""
    assert client.post("/post", json={"name": "pen"}).text == 'data: {"name":"pen","price":null}\n\n'
    assert client.post("/post", json={}).status_code == 422


def test_status_and_headers(client: TestClient) -> None:
    """Those of the route, and those that a dependency sets."""
    answer = client.get("/headers")
    assert (answer.status_code, answer.headers["x-more"], answer.text) == (202, "1", 'data: "x"\n\n')


def test_dependencies(client: TestClient) -> None:
    """They live as long as the stream; one that refuses is a status code."""
    closed.clear()
    assert client.get("/depends").text == 'data: "resource"\n\n'
    assert closed == ["resource"]
    assert client.get("/refused").status_code == 403


@pytest.mark.parametrize("path", ["/quiet", "/quiet-sync"])
def test_a_silent_stream_has_comments(client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no proxy gives it up."""
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.05)
    answer = client.get(path)
    assert KEEPALIVE_COMMENT == b": ping\n\n"
    assert answer.content.startswith(KEEPALIVE_COMMENT)
    assert answer.text.endswith('data: "late"\n\n')


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": 1, "raw_data": "x"},
        {"id": "a\0b"},
        {"id": "a\nb"},
        {"event": "a\r\nb"},
        {"retry": -1},
        {"retry": "soon"},
    ],
)
def test_fields_that_the_wire_cannot_carry(wrong: dict[str, Any]) -> None:
    """They are refused where the event is made."""
    with pytest.raises(ValidationError):
        ServerSentEvent(**wrong)


def test_the_format() -> None:
    """Of data that is text already."""
    assert format_sse_event(data_str="a\nb", event="e", id="1", retry=1, comment="c") == (
        b": c\nevent: e\ndata: a\ndata: b\nid: 1\nretry: 1\n\n"
    )


def test_openapi(client: TestClient) -> None:
    """A stream is described by its items, with the model among the schemas."""
    document = client.get("/openapi.json").json()

    def schema(path: str, method: str = "get") -> Any:
        return document["paths"][path][method]["responses"]["200"]["content"]["text/event-stream"]["itemSchema"]

    for path in ("/async", "/sync", "/router/async"):
        data = schema(path)["properties"]["data"]
        assert data["contentSchema"] == {"$ref": "#/components/schemas/Item"}
        assert data["contentMediaType"] == "application/json"
    assert schema("/post", "post")["properties"]["data"]["contentSchema"] == {"$ref": "#/components/schemas/Item"}
    assert "contentSchema" not in schema("/untyped")["properties"]["data"]
    assert "contentSchema" not in schema("/fields")["properties"]["data"]
    assert schema("/fields")["properties"]["retry"] == {"type": "integer", "minimum": 0}
    assert "Item" in document["components"]["schemas"]


# -- newswire's own response


def test_a_route_that_returns_it() -> None:
    """One class for both: returned, it streams what it was given; `newswire.EventSourceResponse` is in OpenAPI too."""
    app = FastAPI()

    @app.get("/returned")
    async def returned() -> EventSourceResponse:
        return EventSourceResponse(["one"])

    @app.get("/described", response_class=newswire.EventSourceResponse)
    async def described() -> newswire.EventSourceResponse:
        return newswire.EventSourceResponse(["one"])

    with TestClient(app) as client:
        assert client.get("/returned").text == "data: one\n\n"
        assert client.get("/described").text == "data: one\n\n"
        answers = client.get("/openapi.json").json()["paths"]["/described"]["get"]["responses"]
        assert list(answers["200"]["content"]) == ["text/event-stream"]


# -- a hub


def hub_app(hub: Hub[Any]) -> FastAPI:
    app = FastAPI(lifespan=lifespan(hub))

    @app.get("/events", response_class=EventSourceResponse)
    async def stream(request: Request) -> AsyncIterable[ServerSentEvent]:
        async for event in events(hub.subscribe("news", after=last_event_id(request), start="earliest")):
            yield event

    return app


@pytest.mark.slow
async def test_a_subscription_in_a_route_that_yields() -> None:
    """With ids, so that it resumes; and nothing stays when the client leaves."""
    hub = Hub("memory://")
    async with hub, asgi_client(hub_app(hub)) as client:
        first = await hub.publish("news", {"n": 1}, event="tick")
        await hub.publish("news", "two")
        async with client.stream("GET", "/events") as answer:
            found = await first_events(answer, 2)
            assert [(event.event, event.data) for event in found] == [("tick", '{"n":1}'), ("message", "two")]
            assert found[0].id == first
        async with client.stream("GET", "/events", headers={"Last-Event-ID": first}) as answer:
            assert [event.data for event in await first_events(answer, 1)] == ["two"]
        async with asyncio.timeout(PATIENCE):
            while hub.subscribers("news"):
                await asyncio.sleep(0.01)


async def test_a_stop_says_goodbye() -> None:
    """As on all streams of newswire; FastAPI alone would wait for the client."""
    hub = Hub("memory://")
    async with hub, asgi_client(hub_app(hub)) as client:
        await hub.publish("news", "one")
        async with client.stream("GET", "/events") as answer:
            decoder, found = Decoder(), []
            async with asyncio.timeout(PATIENCE):
                async for chunk in answer.aiter_raw():
                    found += decoder.feed(chunk)
                    if len(found) == 1:
                        drain_of(asyncio.get_running_loop()).stop()
            assert [event.event for event in found] == ["message", "newswire.goodbye"]


def test_the_lifespan_of_hubs_and_of_the_application() -> None:
    """The hubs are open within it, its state arrives, and it may run again."""
    one, two = Hub("memory://"), Hub("memory://")
    seen: list[str] = []

    @contextlib.asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        seen.append(str(await one.publish("news", "x") and await two.publish("news", "x") and "open"))
        yield {"key": "value"}
        seen.append("over" if not one.closed else "closed too early")

    app = FastAPI(lifespan=lifespan(one, two, then=own))

    @app.get("/")
    async def state(request: Request) -> str:
        return str(request.state.key)

    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/").json() == "value"
        assert one.closed
        assert two.closed
    assert seen == ["open", "over"] * 2
