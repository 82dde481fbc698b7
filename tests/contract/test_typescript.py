"""TypeScript of contracts, checked by its compiler: mistakes are errors, and every value that is sent has its type."""

from __future__ import annotations

import dataclasses
import enum
import json
import string
import subprocess
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Final, Generic, Literal, NamedTuple, NotRequired, TypeVar
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, create_model
from tests.contract.shop import events
from tests.fixtures.node import node
from tests.fixtures.tsc import tsc
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from newswire.contract import Contract
from newswire.contract.schema import json_schema
from newswire.contract.typescript import typescript
from newswire.wire.event import Event

T = TypeVar("T")

MISTAKES: Final = """
import type { Events, EventName, ShopEvent } from "./events.js";

declare function on<N extends EventName>(name: N, handler: (event: { data: Events[N] }) => void): void;

on("price", (event) => event.data.value.toFixed(2));
on("order.placed", (event) => event.data.lines.map((line) => line.qty));
on("note", (event) => event.data.by?.length);
// @ts-expect-error: there is no such event
on("prise", () => {});
// @ts-expect-error: there is no such field
on("price", (event) => event.data.valued);
// @ts-expect-error: a text, as it is sent, and no number
on("order.placed", (event) => event.data.total.toFixed(2));
// @ts-expect-error: it may be missing
on("note", (event) => event.data.by.length);

export function every(event: ShopEvent): string {
  switch (event.event) {
    case "price": return event.data.symbol;
    case "order.placed": return event.data.total;
    case "stock": return event.data.item;
    case "note": return event.data.text;
    case "ping": return event.data.host;
    case "tags": return event.data[0] ?? "";
    case "done": return "";
  }
}

// @ts-expect-error: a case is missing, so the function may end without a text
export function some(event: ShopEvent): string {
  switch (event.event) {
    case "price": return event.data.symbol;
    case "order.placed": return event.data.total;
    case "done": return "";
  }
}

export function never(event: ShopEvent): string {
  switch (event.event) {
    case "price": case "order.placed": case "stock": case "note": case "ping": case "done": return "";
    default: {
      // @ts-expect-error: `tags` is missing
      const rest: never = event;
      return rest;
    }
  }
}
"""


@pytest.mark.slow
def test_mistakes_are_compile_errors(tmp_path: Path) -> None:
    """A wrong event name, a wrong field and a missing case; and nothing else is an error."""
    (tmp_path / "events.ts").write_text(typescript(json_schema(events)))
    (tmp_path / "mistakes.ts").write_text(MISTAKES)
    assert tsc(tmp_path) == ""


# -- random contracts


class Kind(NamedTuple):
    """A type, and values of it."""

    annotation: Any
    values: st.SearchStrategy[Any]


class Color(enum.Enum):
    RED = "red"
    DEEP_BLUE = "deep blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Tree(BaseModel):
    """Recursive, in a list and in a mapping."""

    name: str
    children: list[Tree] = []
    named: dict[str, Tree | None] = {}


class Leaf(msgspec.Struct):
    label: str
    next: Leaf | None = None


class Box(BaseModel, Generic[T]):
    content: T
    more: list[T] = []


class Both(TypedDict):
    left: int
    right: NotRequired[str]


class Pair(NamedTuple):
    x: int
    y: str


@dataclasses.dataclass
class Point:
    x: float
    tags: list[str] = dataclasses.field(default_factory=list)


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int


class Nothing(BaseModel):
    pass


NONE: Final = type(None)
SAFE: Final = st.integers(-(2**53) + 1, 2**53 - 1)  # what JavaScript's numbers can tell apart
TEXT: Final = st.text(max_size=5).filter(lambda text: "\r" not in text)
WORD: Final = st.text(string.ascii_letters, min_size=1, max_size=5)
FLOAT: Final = st.floats(allow_nan=False, allow_infinity=False)
TREE: Final = st.recursive(
    st.builds(Tree, name=TEXT),
    lambda inner: st.builds(
        Tree, name=TEXT, children=st.lists(inner, max_size=2), named=st.dictionaries(WORD, inner, max_size=2)
    ),
    max_leaves=4,
)
LEAF: Final = st.recursive(st.builds(Leaf, TEXT), lambda inner: st.builds(Leaf, TEXT, inner), max_leaves=3)


def loose(known: int, more: dict[str, Any]) -> Loose:
    return Loose(known=known, **more)


PLAIN: Final = [
    Kind(str, TEXT),
    Kind(int, SAFE),
    Kind(float, FLOAT),
    Kind(bool, st.booleans()),
    Kind(NONE, st.none()),
    Kind(Any, st.none() | SAFE | TEXT | st.lists(TEXT, max_size=2)),
    Kind(datetime, st.datetimes(timezones=st.timezones() | st.none()).map(lambda at: at.replace(fold=0))),
    Kind(date, st.dates()),
    Kind(time, st.times()),
    Kind(timedelta, st.timedeltas(timedelta(0), timedelta(days=10_000))),
    Kind(UUID, st.uuids()),
    Kind(Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=3)),
    Kind(Literal["a", "b c", 3, True, None], st.sampled_from(["a", "b c", 3, True, None])),
    Kind(Color, st.sampled_from(Color)),
    Kind(Level, st.sampled_from(Level)),
    Kind(Tree, TREE),
    Kind(Both, st.fixed_dictionaries({"left": SAFE}, optional={"right": TEXT})),
    Kind(Pair, st.builds(Pair, SAFE, TEXT)),
    Kind(Point, st.builds(Point, FLOAT, st.lists(TEXT, max_size=2))),
    Kind(Loose, st.builds(loose, SAFE, st.dictionaries(WORD.map("x_{}".format), SAFE, max_size=2))),
    Kind(Nothing, st.builds(Nothing)),
]  # fmt: skip


def either(*types: Any) -> Any:
    """The union of types."""
    return Any if Any in types else reduce(or_, types)


ALIASES: Final = ("with-dash", "class", "née", "0", "ok")
MAKERS: Final = ("list", "dict", "optional", "union", "tuple", "many", "model", "generic", "data", "keys")


@st.composite
def kinds(draw: Callable[..., Any], depth: int = 2) -> Kind:
    """A random type, made of others."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return draw(st.sampled_from(PLAIN))
    (a, of_a), (b, of_b) = draw(kinds(depth - 1)), draw(kinds(depth - 1))
    some = st.lists(of_a, max_size=2)
    match draw(st.sampled_from(MAKERS)):
        case "list":
            return Kind(list[a], some)
        case "dict":
            return Kind(dict[str, a], st.dictionaries(TEXT.filter(lambda key: key != "__proto__"), of_a, max_size=2))
        case "keys":
            return Kind(dict[Literal["a", "b"], a], st.dictionaries(st.sampled_from(["a", "b"]), of_a, max_size=2))
        case "optional":
            return Kind(either(a, NONE), st.none() | of_a)
        case "union":
            return Kind(either(a, list[b]), of_a | st.lists(of_b, max_size=2))
        case "tuple":
            return Kind(tuple[a, b, int], st.tuples(of_a, of_b, SAFE))
        case "many":
            return Kind(tuple[a, ...], some.map(tuple))
        case "generic":
            return Kind(Box[a], st.builds(lambda content, more: Box[a](content=content, more=more), of_a, some))
        case "data":
            made: Any = dataclasses.make_dataclass("Made", [("first", a), ("second", b)])
            return Kind(made, st.builds(made, of_a, of_b))
    alias = draw(st.sampled_from(ALIASES))
    name = draw(st.sampled_from(["Model", "Event", "Events", "string", "Array"]))
    fields = {"plain": (a, ...), "named": (b, Field(alias=alias)), "optional": (either(a, NONE), None)}
    model: Any = create_model(name, **fields)
    return Kind(model, st.builds(lambda plain, named: model(plain=plain, **{alias: named}), of_a, of_b))


class Case(NamedTuple):
    """A contract, and events that were published and then read from what was sent."""

    contract: Contract[Any]
    sent: list[Event]


def cases(count: int) -> list[Case]:
    """Random contracts with events of each kind; what Python reads back is what was published."""
    found: list[Case] = []

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def make(data: st.DataObject) -> None:
        drawn = [data.draw(kinds()) for _ in range(3)]
        declared: dict[str, Any] = {f"event.{number}": kind.annotation for number, kind in enumerate(drawn)}
        contract = Contract("random", {**declared, "leaf": Leaf})
        sent = []
        for name, kind in zip([*declared, "leaf"], [*drawn, Kind(Leaf, LEAF)], strict=True):
            for _ in range(3):
                event = contract.encode(data.draw(kind.values), name)
                assert contract.encode(event) == event  # what a reader sends on is the same
                sent.append(event)
        found.append(Case(contract, sent))

    make()
    return found


READ_AND_WRITE: Final = """
const texts = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(texts.map((text) => JSON.stringify(JSON.parse(text)))));
"""


@pytest.mark.slow
def test_what_is_sent_has_the_types_of_the_contract(tmp_path: Path) -> None:
    """Random contracts: every value type-checks, a wrong one does not, and JavaScript gives back what Python reads."""
    made = cases(120)
    assert len(made) >= 100
    texts: list[str] = []
    for number, (contract, sent) in enumerate(made):
        lines = [typescript(json_schema(contract))]
        for index, event in enumerate(sent):
            texts.append(event.data)
            lines.append(f"export const v{index}: Events[{json.dumps(event.event)}] = {event.data};")
        # the types say something: no symbol is a value of JSON (but `unknown` takes all)
        lines += ["type Any<T> = unknown extends T ? true : false;"]
        for index, name in enumerate(contract.events):
            lines += [
                f"export const n{index}: Any<Events[{json.dumps(name)}]> extends true ? true :",
                f"  (symbol extends Events[{json.dumps(name)}] ? false : true) = true;",
            ]
        (tmp_path / f"contract{number}.ts").write_text("\n".join(lines))
    assert tsc(tmp_path) == ""
    done = subprocess.run(
        [node(), "-e", READ_AND_WRITE], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    returned = iter(json.loads(done.stdout))
    for contract, sent in made:
        for event in sent:
            assert contract.read(event._replace(data=next(returned))) == contract.read(event)
