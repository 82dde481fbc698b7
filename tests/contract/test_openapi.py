"""Contracts in OpenAPI documents: of FastAPI, of Litestar, of any; and streams checked by them."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from litestar import Litestar, get
from pydantic import create_model
from starlette.requests import Request
from tests.contract.shop import Order, Price, Stock, events
from tests.fixtures.serve import running

from newswire import EventSourceResponse, Hub
from newswire.contract import Contract
from newswire.contract.check import StreamChecker
from newswire.contract.openapi import describe, describe_fastapi, describe_litestar, item_schema
from newswire.hub.presence.names import note_here
from newswire.testing import asgi_client
from newswire.wire.encoder import encode
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio


def fastapi_app(**more: Any) -> FastAPI:
    """An application with a stream and another route, whose model has the name of one of the contract."""
    app = FastAPI(**more)
    theirs = create_model("Price", cents=(int, ...))

    @app.get("/users/{user}/events")
    async def stream(request: Request, user: str) -> Any:
        return EventSourceResponse(Hub().subscribe("news"))

    @app.post("/prices", response_model=theirs)
    async def buy() -> dict[str, int]:
        return {"cents": 1}

    return app


def item_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    media: dict[str, Any] = document["paths"][path]["get"]["responses"]["200"]["content"]["text/event-stream"]
    return media


async def test_fastapi_serves_the_union_in_its_own_schema() -> None:
    """One call; the document says 3.2, the application's other types stay what they are, and it is made once."""
    app = fastapi_app()
    describe_fastapi(app, {"/users/{id}/events": events})
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://t") as client:
        document = (await client.get("/openapi.json")).json()
        assert (await client.get("/openapi.json")).json() == document
    assert document["openapi"] == "3.2.0"
    assert item_of(document, "/users/{user}/events") == {"itemSchema": {"$ref": "#/components/schemas/shop.Event"}}
    schemas = document["components"]["schemas"]
    assert schemas["Price"]["properties"].keys() == {"cents"}
    assert schemas["shop.Price"]["properties"].keys() == {"symbol", "value"}
    price = schemas["shop.Event"]["oneOf"][0]
    assert price["properties"]["event"] == {"const": "price"}
    assert price["properties"]["data"] == {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": "#/components/schemas/shop.Price"},
    }
    names = [each["properties"]["event"]["const"] for each in schemas["shop.Event"]["oneOf"]]
    assert names[: len(events.events)] == [*events.events]
    assert {"newswire.gap", "newswire.goodbye", "newswire.end", "newswire.live"} < {*names}


async def test_litestar_serves_it_too() -> None:
    """Also as 3.1, which has no itemSchema: the union is the media type's schema."""

    @get("/events", media_type="text/event-stream")
    async def stream() -> str:
        return ""

    app = Litestar([stream], logging_config=None)
    describe_litestar(app, {"/events": events}, version="3.1")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://t") as client:  # type: ignore[arg-type]
        document = (await client.get("/schema/openapi.json")).json()
    assert document["openapi"] == "3.1.1"
    assert item_of(document, "/events") == {"schema": {"$ref": "#/components/schemas/shop.Event"}}


def test_each_reference_leads_somewhere(jsonschema: Any) -> None:
    """In a document, and in the schema alone."""
    document = describe({"paths": {"/events": {"get": {}}}}, {"/events": events})
    found = set(_references(document))
    assert {reference.removeprefix("#/components/schemas/") for reference in found} <= document["components"][
        "schemas"
    ].keys()
    jsonschema.Draft202012Validator.check_schema(item_schema(events))


def _references(schema: Any) -> Any:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for each in schema.values():
            yield from _references(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)


def test_what_can_not_be_described() -> None:
    """A path that is not there, and a version that is none, are errors at once."""
    with pytest.raises(ValueError, match=r"no path '/nope'; it has /events"):
        describe({"paths": {"/events": {"get": {}}}}, {"/nope": events})
    with pytest.raises(ValueError, match="version"):
        describe({"paths": {}}, {}, version="3.0")  # type: ignore[arg-type]
    for streams in (events, {"/events": "shop"}):
        for call, app in ((describe, {}), (describe_fastapi, FastAPI()), (describe_litestar, Litestar())):
            with pytest.raises(TypeError, match="streams is a mapping from paths to contracts, not "):
                call(app, streams)  # type: ignore[operator]
    with pytest.raises(TypeError, match="app is a FastAPI application, not 'app'"):
        describe_fastapi("app", {})
    with pytest.raises(TypeError, match="app is a Litestar application, not 'app'"):
        describe_litestar("app", {})
    with pytest.raises(ValueError, match="the application makes no OpenAPI document: give it an openapi_config"):
        describe_litestar(Litestar(openapi_config=None), {})
    with pytest.raises(TypeError, match="document is a Mapping, not None"):
        StreamChecker(None, "/events")  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["3.2", "3.1"])
def test_the_checker_finds_what_is_wrong_in_an_event_and_in_its_data(version: Any) -> None:
    """An undeclared event, and data that its contentSchema does not allow; what is published has no fault."""
    plain = Contract("plain", {"message": int})
    document = describe({"paths": {"/e": {"get": {}}, "/p": {"get": {}}}}, {"/e": events, "/p": plain}, version=version)
    checker = StreamChecker(document, "/e")
    order = Order(number=1, total=1, placed=0, lines=[{"item": "a", "qty": 1}])  # type: ignore[arg-type,list-item]
    good = [events.encode(value) for value in (Price(symbol="A", value=1), order, Stock("a", 1), {"text": "hi"}, None)]
    stream = b"".join(encode(event._replace(id="e-1")) for event in good)
    assert checker.check(b": hello\n\nretry: 1\nid: e-0\n\n" + stream) == []
    assert checker.check([Event('{"reason": "trimmed"}', "newswire.gap")]) == []
    for change, state in (("join", '{"name":"Ada"}'), ("update", "1"), ("leave", None)):
        assert checker.check([Event(note_here(("room.1", "ada"), change, state), "newswire.presence")]) == []
    found = checker.check(
        [
            Event("1", "prise"),
            Event('{"symbol": "A", "value": 0}', "price"),
            Event('{"symbol": "A", "val', "price"),
            Event('{"number": 1, "total": "1", "placed": "x", "lines": [{"item": "a", "qty": 0}]}', "order.placed"),
            Event("1"),
        ]
    )
    assert [fault.path for _, fault in found] == ["event", "data.value", "data", "data.lines[0].qty", "event"]
    assert StreamChecker(document, "/p").check([Event("1"), Event("x")])[0][1].path == "data"
    with pytest.raises(ValueError, match="no stream at GET /x"):
        StreamChecker(document, "/x")


async def test_the_stream_of_a_served_application_fits_its_own_document() -> None:
    """What FastAPI sends of a hub is what the document says, gaps and the end of the snapshot included."""
    app = FastAPI()
    hub = Hub(contract=events)

    @app.get("/events")
    async def stream() -> Any:
        return EventSourceResponse(hub.subscribe("news", after="nonsense"))

    describe_fastapi(app, {"/events": events})
    async with hub:
        await hub.publish("news", Price(symbol="A", value=1))
        await hub.publish("news", None)
        async with asgi_client(app) as client, client.stream("GET", "/events") as answer:
            got = b""
            async for part in answer.aiter_bytes():
                got += part
                if b"event: done" in got:
                    break
    checker = StreamChecker(app.openapi(), "/events")
    assert checker.check(got) == []
    assert b"newswire.gap" in got
    broken = copy.deepcopy(app.openapi())
    broken["components"]["schemas"]["shop.Price"]["properties"]["symbol"] = {"type": "integer"}
    assert [fault.path for _, fault in StreamChecker(broken, "/events").check(got)] == ["data.symbol"]


def schemathesis(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it against a server's own document, for streams alone."""
    command = [sys.executable, "-W", "ignore", "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    command += ["--checks", "response_schema_conformance,content_type_conformance,not_a_server_error"]
    command += [
        "--phases",
        "fuzzing",
        "-n",
        "3",
        "--mode",
        "positive",
        "--no-color",
        "--workers",
        "1",
    ]
    command += ["--generation-deterministic"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)


@pytest.mark.slow
def test_schemathesis_finds_the_demo_true_and_a_wrong_one_false(tmp_path: Path) -> None:
    """It checks each event by `itemSchema`: of the example, and of a changed one whose event was not declared."""
    source = (Path(__file__).parents[2] / "examples" / "contract_app.py").read_text()
    wrong = source.replace('yield events.encode(Step(title="reading", done=0.5))', 'yield Event("1", "stpe")')
    assert wrong != source
    (tmp_path / "wrong_app.py").write_text(wrong)
    with running("examples.contract_app:app") as (url, _):
        good = schemathesis(url, tmp_path)
    assert good.returncode == 0, good.stdout + good.stderr
    with running("wrong_app:app", tmp_path) as (url, _):
        bad = schemathesis(url, tmp_path)
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert "event" in bad.stdout
