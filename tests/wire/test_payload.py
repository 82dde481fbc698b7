"""What values become as events: strict JSON, the types that people publish, and errors that name the place."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import math
import pickle
from collections import OrderedDict, UserDict, deque
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.delivery.reader import encode_item
from newswire.errors import InvalidEvent
from newswire.runs.parts import event_of
from newswire.wire.event import Event
from newswire.wire.payload import read_json, to_event, write_json

WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


class Colour(str, Enum):  # noqa: UP042  # it writes itself as "Colour.RED"
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Plain(Enum):
    PAIR = ("a", 1)


class Model(pydantic.BaseModel):
    price: Decimal
    at: datetime.datetime


class Roots(pydantic.RootModel[list[int]]):
    pass


@attrs.define
class Place:
    x: int
    at: datetime.datetime


@dataclasses.dataclass
class Order:
    id: UUID
    model: Model
    colours: frozenset[Colour]


@dataclasses.dataclass(slots=True)
class Slotted:
    x: float


class Point(NamedTuple):
    x: int
    y: int


class Move(TypedDict):
    piece: str
    when: datetime.datetime


MODEL = Model(price=Decimal("1.10"), at=WHEN)
ORDER = Order(UUID(int=7), MODEL, frozenset({Colour.RED}))
VALUES: list[tuple[Any, Any]] = [
    (MODEL, {"price": "1.10", "at": "2026-01-02T03:04:05Z"}),
    (Roots([1, 2]), [1, 2]),
    (ORDER, {"id": str(UUID(int=7)), "model": {"price": "1.10", "at": "2026-01-02T03:04:05Z"}, "colours": ["red"]}),
    (Slotted(1.5), {"x": 1.5}),
    (Point(1, 2), [1, 2]),
    (Move(piece="rook", when=WHEN), {"piece": "rook", "when": "2026-01-02T03:04:05+00:00"}),
    (WHEN, "2026-01-02T03:04:05+00:00"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.time(3, 4), "03:04:00"),
    (datetime.timedelta(minutes=1), 60.0),
    (UUID(int=7), str(UUID(int=7))),
    (Decimal("1.10"), "1.10"),
    (Level.HIGH, 3),
    (Plain.PAIR, ["a", 1]),
    (
        {Colour.RED: Level.HIGH, UUID(int=7): None, 1: True, None: 2.5},
        {"red": 3, str(UUID(int=7)): None, "1": True, "null": 2.5},
    ),
    (PurePosixPath("a/b"), "a/b"),
    (UserDict(a=1), {"a": 1}),
    (OrderedDict(a=1), {"a": 1}),
    ((1, "é\u2028"), [1, "é\u2028"]),
    (Fraction(1, 2), 0.5),
    (Place(1, WHEN), {"x": 1, "at": "2026-01-02T03:04:05+00:00"}),
    (deque([1, "a"]), [1, "a"]),
]
WAYS = [to_event, event_of, lambda item: Event(encode_item(item).decode().removeprefix("data: ").removesuffix("\n\n"))]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=lambda value: type(value).__name__)
def test_values_are_published_as_people_expect(value: Any, expected: Any) -> None:
    """Models, dataclasses, datetimes and their like are JSON, alone and nested, in each place that takes values."""
    for way in WAYS:
        assert json.loads(way(value).data) == expected
        assert json.loads(way({"nested": [value]}).data) == {"nested": [expected]}


def test_msgspec_structs_are_published_with_their_own_names() -> None:
    """A struct's rename and nesting are msgspec's."""
    struct = msgspec.defstruct("Tick", [("at_time", datetime.datetime), ("colour", Colour)], rename="camel")
    assert read_json(to_event(struct(WHEN, Colour.RED)).data) == {"atTime": "2026-01-02T03:04:05Z", "colour": "red"}


def _loop() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def _deep() -> Any:
    found: Any = {}
    for _ in range(100_000):
        found = {"a": found}
    return found


BAD: list[tuple[Any, str]] = [
    (math.nan, "the value"),
    (math.inf, "the value"),
    ({"a": [1, {"b": -math.inf}]}, "a[1].b"),
    ({"k": {math.nan: 1}}, "k has the key"),
    (Slotted(math.nan), "x is nan"),
    ({"d": [Decimal("NaN")]}, "d[0]"),
    ({"a": b"x"}, "a: bytes has no form in JSON; decode it"),
    ({"a": object()}, "a: object"),
    ({(1, 2): 3}, "a key of type tuple"),
    (_loop(), "nested too deeply"),
    (_deep(), "nested too deeply"),
]


@pytest.mark.parametrize(("value", "said"), BAD, ids=[said for _, said in BAD])
def test_what_json_cannot_say_is_refused_and_named(value: Any, said: str) -> None:
    """NaN, infinity, circles and strange types never become text that no browser parses."""
    for way in WAYS:
        with pytest.raises(InvalidEvent) as caught:
            way(value)
        assert caught.value.field == "data"
        assert said in str(caught.value)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", "1e999", '{"a":-1e999}', "[" * 100_000, "", "{]"])
def test_reading_is_as_strict_as_writing(text: str) -> None:
    """What JSON can't say again is no JSON, however Python reads it."""
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        read_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@given(JSON)
def test_any_json_survives(value: Any) -> None:
    """What JSON can say comes back as it was."""
    assert read_json(write_json(value)) == value


@pytest.mark.slow
@given(st.recursive(st.floats() | st.text(st.characters()), lambda inner: st.dictionaries(st.text(), inner)))
def test_what_is_written_can_always_be_read(value: Any) -> None:
    """Either a value is refused, or every strict reader reads it; lone surrogates are escaped."""
    try:
        event = to_event({"value": value})
    except InvalidEvent:
        return
    event.data.encode()
    assert read_json(event.data) == {"value": value}


def test_an_enum_of_text_is_its_text() -> None:
    """As data and as a type: Python writes such members as `Colour.RED` in f-strings."""
    event = to_event(Colour.RED, Colour.RED)
    assert (event.data, event.event) == ("red", "red")
    assert type(Event(Colour.RED, Colour.RED).event) is str
    assert f"{Event(data=Colour.RED).data}" == "red"


@pytest.mark.parametrize("name", ["error", "open", "newswire.gap", "newswire.x"])
def test_reserved_types_are_refused_in_each_place(name: str) -> None:
    """A publisher can't speak in newswire's name, nor in the browser's."""
    for make in (lambda: to_event("x", name), lambda: to_event(Event("x", name)), lambda: event_of(Event("x", name))):
        with pytest.raises(InvalidEvent, match="reserved"):
            make()


def test_no_way_to_an_event_goes_round_its_checks() -> None:
    """Copies with changes are checked as new events are."""
    event = Event("x", "note", "1")
    bad = "a\nevent: b"
    for change in (
        lambda: event._replace(event=bad),
        lambda: Event._make(["x", bad, None, None, None]),
        lambda: event._replace(id="\0"),
        lambda: event._replace(retry=-1),
        lambda: event.__replace__(channel="a\rb"),
    ):
        with pytest.raises(InvalidEvent):
            change()
    assert event._replace(data="y") == Event("y", "note", "1")
    assert copy.copy(event) == copy.deepcopy(event) == pickle.loads(pickle.dumps(event)) == event


@pytest.mark.slow
def test_deep_data_is_no_json_of_an_event() -> None:
    """`Event.json` raises what it says that it raises."""
    with pytest.raises(ValueError, match="deeply"):
        Event("[" * 100_000).json()
