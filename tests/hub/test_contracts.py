"""A hub with contracts: what it stores, what it refuses, what its readers get."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from tests.contract.shop import Price, Stock, events

from newswire import Event, Hub, Member, Pattern
from newswire.contract import Contract, TypedEvent
from newswire.errors import BadPayload, ContractBroken, InvalidChannel
from newswire.server import create_app
from newswire.testing import next_event

pytestmark = pytest.mark.anyio


async def test_publishers_are_held_to_the_contract_and_readers_get_values() -> None:
    """What is refused is not stored; a batch with one bad event is refused whole."""
    async with Hub(contract=events) as hub:
        reader = aiter(hub.subscribe("prices"))
        reading = hub.subscribe("prices", start="earliest")
        with pytest.raises(ContractBroken, match=r"data\.value"):
            await hub.publish("prices", {"symbol": "A", "value": "x"}, event="price")
        with pytest.raises(ContractBroken, match="no event 'prise'"):
            await hub.publish("prices", "x", event="prise")
        with pytest.raises(ContractBroken):
            await hub.publish_many([("prices", Price(symbol="A", value=1)), ("prices", "x")])
        with pytest.raises(InvalidChannel):
            await hub.publish("", Price(symbol="A", value=1))
        position = await hub.publish("prices", Price(symbol="A", value=1))
        await hub.publish_many([("prices", Stock("a", 1)), ("prices", Event("null", "done"))])
        got = [await anext(each) for each in [aiter(reading)] * 3]
        assert got[0] == TypedEvent("price", Price(symbol="A", value=1), str(position), "prices")
        assert [each.data for each in got[1:]] == [Stock("a", 1), None]
        del reader


async def test_each_pattern_of_channels_has_its_contract() -> None:
    """The first that matches counts; other channels, and internal ones, take any event."""
    rooms, rest = Contract("rooms", {"said": str}), Contract("rest", {"price": Price})
    async with Hub(contract={Pattern("room.*"): rooms, "prices": rest}) as hub:
        reader = aiter(hub.subscribe(Pattern(">"), start="earliest"))
        await hub.publish("room.1", "hello")
        await hub.publish("prices", Price(symbol="A", value=1))
        await hub.publish("free", "anything", event="at.all")
        await hub.publish("$internal", "anything")
        with pytest.raises(ContractBroken, match="'rooms'"):
            await hub.publish("room.2", Price(symbol="A", value=1))
        got = [await next_event(reader) for _ in range(3)]
    assert [(type(each), each.data) for each in got] == [
        (TypedEvent, "hello"),
        (TypedEvent, Price(symbol="A", value=1)),
        (Event, "anything"),
    ]


async def test_what_is_built_upon_a_hub_with_a_contract_hears_of_gaps_and_the_end_of_a_snapshot() -> None:
    """newswire's own events without a channel, such as these, come to those who read internal channels alone."""
    async with Hub(contract=events, presence=["room.*"]) as hub:
        internal = aiter(hub.subscribe("$a", Pattern("$b.>"), after="no position", live=True))
        assert [(await next_event(internal)).event for _ in range(2)] == ["newswire.gap", "newswire.live"]
        stream = aiter(hub.subscribe("room.1", presence=Member("ada", 1)))
        reading = asyncio.create_task(anext(stream))
        changes = aiter(hub.presence("room.1"))
        assert (await next_event(changes)).member == "ada"
        assert await hub.presence("room.1").members() == {"ada": 1}
        reading.cancel()


async def test_a_reader_goes_on_after_an_event_that_does_not_fit() -> None:
    """Events that were stored before the contract was are raised one by one, or passed over."""
    async with Hub(contract=events) as hub:
        await hub.log.append([("c", Event("x", "price")), ("c", Event("1", "unknown")), ("c", Event("null", "done"))])
        reader = aiter(hub.subscribe("c", start="earliest"))
        with pytest.raises(BadPayload):
            await next_event(reader)
        assert (await next_event(reader)).event == "done"


async def test_over_http_the_problem_names_the_field() -> None:
    """A served hub with a contract refuses a bad publish with 422, and stores nothing."""
    async with Hub(contract=events) as hub:
        transport = httpx2.ASGITransport(create_app(hub=hub))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            bad = await client.post("/channels/p?event=price", content=b'{"symbol": "A", "value": "x"}')
            unnamed = await client.post("/channels/p", content=b"{}")
            good = await client.post("/channels/p?event=price", content=b'{"symbol": "A", "value": 2}')
            lines = b'{"event": "tags", "data": ["a"]}\n{"event": "price", "data": {"symbol": "A"}}\n'
            ndjson = {"content-type": "application/x-ndjson"}
            batch = await client.post("/channels/p", content=lines, headers=ndjson)
            fine = await client.post("/channels/p", content=lines.splitlines()[0], headers=ndjson)
        page, _ = await hub.history("p")
    assert (bad.status_code, bad.headers["content-type"]) == (422, "application/problem+json")
    problem = bad.json()
    assert (problem["code"], problem["field"], problem["contract"]) == ("contract_broken", "data.value", "shop")
    assert problem["errors"][0]["field"] == "data.value"
    assert (unnamed.status_code, unnamed.json()["field"]) == (422, "event")
    assert (batch.status_code, batch.json()["field"], batch.json()["line"]) == (422, "data.value", 2)
    assert (good.status_code, fine.status_code) == (200, 200)
    assert [entry.data for entry in page.entries] == ['{"symbol":"A","value":2.0}', '["a"]']
