"""What a contract takes, refuses and gives back, without any hub."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest
from pydantic import BaseModel, field_validator
from tests.contract.shop import Line, Order, Ping, Price, Stock, events, mapped

from newswire.contract import Contract, TypedEvent
from newswire.errors import BadPayload, ContractBroken, EventsLost, InvalidEvent
from newswire.wire.event import Event

ORDER = Order(number=7, total=Decimal("9.90"), placed=datetime(2026, 1, 2, tzinfo=UTC), lines=[Line(item="a", qty=2)])


@pytest.mark.parametrize(
    ("value", "name", "json_text"),
    [
        (Price(symbol="A", value=1.5), "price", '{"symbol":"A","value":1.5}'),
        (
            ORDER,
            "order.placed",
            '{"number":7,"total":"9.90","placed":"2026-01-02T00:00:00Z","lines":[{"item":"a","qty":2}]}',
        ),
        (Stock("a", 3), "stock", '{"item":"a","left":3}'),
        ({"text": "hi"}, "note", '{"text":"hi"}'),
        (Ping("h", 0.5), "ping", '{"host":"h","ms":0.5}'),
        (["x", "y"], "tags", '["x","y"]'),
        (None, "done", "null"),
    ],
)
@pytest.mark.parametrize("contract", [events, mapped], ids=["union", "mapping"])
def test_the_event_is_known_from_the_value_and_read_back_as_it(
    contract: Contract[Any], value: Any, name: str, json_text: str
) -> None:
    """Models, dataclasses, TypedDicts, structs, annotations and None; each reader gets an equal value."""
    event = contract.encode(value)
    assert event == Event(json_text, name)
    assert contract.encode(value, name) == event
    assert contract.encode(json_text.encode(), name) == event
    assert contract.encode(event) == event
    assert contract.make(value, name) == event
    stored = event._replace(id="e-1", channel="c")
    assert contract.read(stored) == TypedEvent(name, value, "e-1", "c")


@pytest.mark.parametrize(
    ("data", "event", "fields", "says"),
    [
        (Price(symbol="A", value=1), "prise", ["event"], "no event 'prise'; it has 'price', 'order.placed'"),
        (object(), None, ["event"], "no event whose data is object"),
        (b"1", None, ["event"], "no event 'message'"),
        ({"symbol": "A"}, "price", ["data.value"], "Field required"),
        ({"symbol": 1, "value": -1}, "price", ["data.symbol", "data.value"], "greater than 0"),
        (Price.model_construct(symbol="A", value="x"), None, ["data.value"], "valid number"),
        ({"symbol": "A", "value": float("nan")}, "price", ["data.value"], "greater than 0"),
        ({"symbol": "A", "value": float("inf")}, "price", ["data.value"], "valid number"),
        (b'{"symbol": "A", "value": Infinity}', "price", ["data.value"], "valid number"),
        (b'{"symbol": "A", ', "price", ["data"], "Invalid JSON"),
        (Event("x", "price"), None, ["data"], "Invalid JSON"),
        (Stock("a", "three"), None, ["data.left"], "valid integer"),  # type: ignore[arg-type]
        ({"number": 1, "total": "1", "placed": 0, "lines": [{"item": "a", "qty": 0}]}, "order.placed",
         ["data.lines[0].qty"], "greater than or equal to 1"),
        (Ping("h", "fast"), None, ["data.ms"], "Expected `float`"),  # type: ignore[arg-type]
        (["a", 1], None, ["data[1]"], "valid string"),
        ({"by": "me"}, None, ["data.text"], "Field required"),
        ("x", "done", ["data"], "None"),
    ],
)  # fmt: skip
def test_what_the_contract_does_not_allow_is_refused_with_its_place(
    data: Any, event: str | None, fields: list[str], says: str
) -> None:
    """An undeclared event, or data that no reader could read: the error names the field and what is wrong there."""
    with pytest.raises(ContractBroken, match="shop") as caught:
        events.encode(data, event)
    assert [field for field, _ in caught.value.faults] == fields
    assert caught.value.field == fields[0]
    assert says in str(caught.value)
    assert isinstance(caught.value, InvalidEvent)


def test_what_is_stored_is_what_the_type_says_whoever_wrote_it() -> None:
    """A dataclass checks nothing, and JSON from outside may write a number as text: what is stored has the type."""
    assert events.encode(Stock("a", "5")).data == '{"item":"a","left":5}'  # type: ignore[arg-type]
    assert events.encode(b'{ "symbol": "A", "value": "2", "more": 1 }', "price").data == '{"symbol":"A","value":2.0}'


@dataclass
class Circle:
    r: int


@dataclass
class Square:
    a: int


class Special(Price):
    until: int


def test_which_event_a_value_is() -> None:
    """A union's members, and a subclass's base, lead to their event; a class of two events has to be named."""
    contract = Contract("shapes", {"shape": Circle | Square, "red": Price, "blue": Stock, "sold": Stock})  # type: ignore[dict-item]
    assert contract.encode(Square(2)) == Event('{"a":2}', "shape")
    assert contract.encode(Special(symbol="A", value=1, until=3)).event == "red"
    with pytest.raises(ContractBroken, match="Stock is the data of 'blue', 'sold': name the event"):
        contract.encode(Stock("a", 1))
    assert contract.encode(Stock("a", 1), "sold").event == "sold"
    plain = Contract("plain", {"message": str})
    assert plain.encode("It works") == Event('"It works"')
    assert plain.encode(b'"It works"') == Event('"It works"')


def test_a_reader_decides_about_events_that_the_contract_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    """Left out; raised, and the reader may go on; or given to a function. A gap is never silent."""
    strange, gap = Event("1", "strange", "e-1"), Event('{"reason": "trimmed"}', "newswire.gap")
    assert events.read(strange) is None
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert events.read(gap) is None
    assert "events were lost" in caplog.text
    with pytest.raises(BadPayload, match="'strange', which the contract 'shop' does not have"):
        events.read(strange, "raise")
    with pytest.raises(EventsLost):
        events.read(gap, "raise")
    assert events.read(Event("{}", "newswire.goodbye"), "raise") is None
    seen: list[Event] = []
    listening = Contract("shop", {"done": None}, unknown=seen.append)
    assert [listening.read(each) for each in (strange, gap)] == [None, None]
    assert seen == [strange, gap]


def test_data_that_does_not_fit_its_event_is_a_bad_payload() -> None:
    """As what an older publisher stored."""
    with pytest.raises(BadPayload, match=r"'price' of the contract 'shop': value: .*valid number") as caught:
        events.read(Event('{"symbol": "A", "value": "x"}', "price", "e-1"))
    assert caught.value.model is Price


class Node(BaseModel):
    name: str
    children: list[Node] = []


def test_declarations_that_make_no_contract() -> None:
    """Each says what is wrong when the contract is made, not when the first event is published."""

    class Odd:
        pass

    with pytest.raises(InvalidEvent, match="reserved"):
        Contract("x", {"newswire.gap": Price})
    with pytest.raises(InvalidEvent, match="line feed"):
        Contract("x", {"a\nb": Price})
    with pytest.raises(ValueError, match="at least one"):
        Contract("x", {})
    with pytest.raises(ValueError, match="name is a text"):
        Contract("", {"a": Price})
    with pytest.raises(TypeError, match="a contract's name is a str, not 3"):
        Contract(3, {"a": Price})
    with pytest.raises(InvalidEvent, match="event must be a str, not int"):
        Contract("x", {"a": int}).encode(1, event=7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown is"):
        Contract("x", {"a": Price}, unknown="drop")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Odd"):
        Contract("x", {"a": Odd})
    with pytest.raises(TypeError, match="give the class itself"):
        Contract("x", {"a": Stock("a", 1)})
    with pytest.raises(TypeError, match="declared twice"):
        Contract("x", TypedEvent[Literal["a"], int] | TypedEvent[Literal["a"], str])
    with pytest.raises(TypeError, match="neither"):
        Contract("x", TypedEvent[Literal["a"], int] | int)
    assert json.loads(Contract("x", {"node": Node}).encode(Node(name="a", children=[Node(name="b")])).data) == {
        "name": "a",
        "children": [{"name": "b", "children": []}],
    }


class Picky(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def known(cls, number: int) -> int:
        return {1: 1}[number]


class Nested(msgspec.Struct):
    inner: list[Any]


@pytest.mark.parametrize(
    ("kind", "data", "why"),
    [
        (Picky, '{"number": 2}', "KeyError: 2"),
        (Nested, '{"inner": %s}' % ("[" * 100_000 + "]" * 100_000), "nested too deeply"),
    ],
    ids=["its own code raises", "nested too deeply"],
)
def test_whatever_reading_raises_is_a_bad_payload(kind: Any, data: str, why: str) -> None:
    """What another machine sends ends no reader in an unexpected way."""
    contract: Contract[Any] = Contract("c", {"a": kind})
    with pytest.raises(BadPayload, match=f"an event does not fit 'a' of the contract 'c': .*{why}"):
        contract.read(Event(data, "a"))


def test_a_publisher_may_not_nest_too_deeply() -> None:
    """Over HTTP, where the data comes as text, that is a fault of the request."""
    with pytest.raises(ContractBroken, match="nested too deeply"):
        Contract("c", {"a": Nested}).encode(b'{"inner": %s}' % (b"[" * 100_000 + b"]" * 100_000), "a")
