"""What type checkers make of contracts. `# error` marks each line that has to be an error, `# reveals` a type.

`test_contract_static.py` checks it; it is never run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, assert_never, assert_type

from tests.contract.shop import Event as ShopEvent
from tests.contract.shop import Line, Note, Order, Ping, Price, Stock, events

import newswire
from newswire import AsyncEventSource, EventSource, Hub, Pattern, Position
from newswire.contract import Contract, TypedEvent


async def a_hub_gives_what_its_contract_says() -> None:
    async with Hub(contract=events) as hub:
        assert_type(hub, Hub[ShopEvent])
        async for event in hub.subscribe("prices"):
            if event.event == "price":
                assert_type(event.data, Price)
                print(event.data.value)
                print(event.data.valued)  # error
            elif event.event == "order.placed":
                assert_type(event.data, Order)
                print(event.data.lines[0].quantity)
                print(event.data.lines[0].symbol)  # error
            elif event.event == "note":
                assert_type(event.data, Note)
            elif event.event == "ping":
                assert_type(event.data, Ping)


async def both_sources_give_it(source: EventSource, source_async: AsyncEventSource) -> None:
    assert_type(source.typed(events), Iterator[ShopEvent])
    async for event in source_async.typed(events):
        if event.event == "stock":
            assert_type(event.data, Stock)
            event.data.left + "x"  # error


def every_case(event: ShopEvent) -> None:
    if event.event == "price" or event.event == "order.placed" or event.event == "stock":
        print("three", event.data)
    elif event.event == "note" or event.event == "ping" or event.event == "tags":
        print("six", event.data)
    elif event.event == "done":
        assert_type(event.data, None)
    else:
        assert_never(event)


def a_missing_case(event: ShopEvent) -> None:
    if event.event == "price" or event.event == "order.placed" or event.event == "stock":
        print("three", event.data)
    elif event.event == "note" or event.event == "ping":
        print("five", event.data)
    elif event.event == "done":
        print("done")
    else:
        assert_never(event)  # error


def a_wrong_name(event: ShopEvent) -> None:
    if event.event == "prise":  # error
        print(event.data)


def by_match(event: ShopEvent) -> None:
    match event.event:
        case "price":
            assert_type(event.data, Price)
        case "prise":  # error: pyright
            pass
        case _:
            pass


class_of_data: Contract[TypedEvent[str, Price | Stock]] = Contract("shop", {"price": Price, "stock": Stock})


async def a_mapping_knows_the_union_of_the_data() -> None:
    async for event in Hub(contract=class_of_data).subscribe("prices"):
        match event.data:
            case Price():
                assert_type(event.data, Price)
            case Stock():
                print(event.data.left)
            case _:
                assert_never(event.data)


async def hubs_without_contracts_give_events() -> None:
    hub = Hub("memory://")
    assert_type(hub, Hub)
    async for event in hub.subscribe("a"):
        assert_type(event, newswire.Event)
    some = Hub(contract={Pattern("room.*"): events})
    async for either in some.subscribe("a"):
        assert_type(either, ShopEvent | newswire.Event)


async def what_is_published_is_checked_too(hub: Hub[ShopEvent]) -> None:
    await hub.publish("prices", events.make(Price(symbol="A", value=1)))
    await hub.publish("prices", events.make(None, "done"))
    events.make(Line(item="a", qty=1))  # error
    events.make(Price(symbol="A", value=1), "prise")  # error
    events.make(Price(symbol="A", value=1), "price")
    events.make("text")  # error


async def a_hub_knows_the_names_of_its_events(
    hub: Hub[ShopEvent],
    some: Hub[ShopEvent | newswire.Event],
    by_class: Hub[TypedEvent[str, Price]],
    plain: Hub,
    name: str,
) -> None:
    await hub.publish("prices", {"symbol": "A", "value": 1}, event="price")
    await hub.publish("prices", {"symbol": "A", "value": 1}, event="prise")  # error
    await hub.publish("prices", Price(symbol="A", value=1))
    await hub.publish("prices", 1, event="prise", version=3)  # error
    await hub.publish("prices", 1, event="prise", connection=object())  # error
    assert_type(await hub.publish("prices", None, event="done"), Position)
    hub.sync.publish("prices", None, event="done")
    hub.sync.publish("prices", None, event="dome")  # error
    await some.publish("any", 1, event=name)
    await by_class.publish("prices", Price(symbol="A", value=1), event=name)
    await plain.publish("any", 1, event=name)
    plain.sync.publish("any", 1, event=name)


Priced = TypedEvent[Literal["price"], Price] | TypedEvent[Literal["line"], Line]
models: Contract[Priced] = Contract("models", Priced)
one: Contract[TypedEvent[Literal["price"], Price]] = Contract("one", TypedEvent[Literal["price"], Price])


def types_with_a_common_base_stay_apart(order: Order, line: Line) -> None:
    models.make(line, "line")
    models.make(order)  # error
    models.make(line, "order")  # error
    one.make(line)  # error
    one.make(Price(symbol="A", value=1), "line")  # error
    class_of_data.make(Price(symbol="A", value=1), "price")
    class_of_data.make(line)  # error


def takes_a_plain_hub(hub: Hub) -> None:
    pass


takes_a_plain_hub(Hub(contract=events))  # error
