"""Which changes of a contract break readers that have the old version."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model
from tests.contract.shop import events, mapped

from newswire.contract import Contract
from newswire.contract.diff import Change, diff
from newswire.contract.schema import json_schema


def changes(old: Any, new: Any) -> list[Change]:
    return diff(json_schema(Contract("x", {"e": old})), json_schema(Contract("x", {"e": new})))


def model(**fields: Any) -> Any:
    return create_model(
        "Model", **{name: kind if isinstance(kind, tuple) else (kind, ...) for name, kind in fields.items()}
    )


class Red(Enum):
    RED = "red"


class Colours(Enum):
    RED = "red"
    BLUE = "blue"


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int


class ClosedMore(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int
    b: int


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class OtherTree(BaseModel):
    name: str
    children: list[OtherTree] = []


class ChangedTree(BaseModel):
    name: int
    children: list[ChangedTree] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]


class ChangedCat(BaseModel):
    kind: Literal["cat"]
    lives: str


Positive = Annotated[int, Field(gt=0)]


@pytest.mark.parametrize(
    ("old", "new", "place", "says"),
    [
        (model(a=int), model(b=int), "e.a", "is gone"),
        (model(a=int), model(a=str), "e.a", "was an integer, is a string"),
        (model(a=int), model(a=float), "e.a", "was an integer, is a number"),
        (model(a=int), model(a=int | None), "e.a", "may now be null; it was an integer"),
        (model(a=Literal["x"]), model(a=Literal["x", "y"]), "e.a", 'may now be "y"; it was "x"'),
        (model(a=Literal["x"]), model(a=str), "e.a", 'was "x", is a string'),
        (model(a=Red), model(a=Colours), "e.a", 'may now be "blue"; it was "red"'),
        (model(a=bool), model(a=int), "e.a", "may now be an integer; it was false or true"),
        (model(a=Positive), model(a=int), "e.a", "exclusiveMinimum was 0, is gone"),
        (model(a=Annotated[str, Field(max_length=3)]), model(a=Annotated[str, Field(max_length=4)]), "e.a", "is 4"),
        (model(a=Annotated[str, Field(pattern="^a")]), model(a=str), "e.a", "pattern was ^a, is gone"),
        (model(a=list[int]), model(a=list[str]), "e.a[]", "was an integer, is a string"),
        (model(a=list[int]), model(a=list[int | str]), "e.a[]", "may now be a string"),
        (model(a=tuple[int, str]), model(a=tuple[int, int]), "e.a[1]", "was a string, is an integer"),
        (model(a=tuple[int, str]), model(a=tuple[int, str, str]), "e.a", "maxItems was 2, is 3"),
        (model(a=tuple[int, str]), model(a=tuple[int]), "e.a", "minItems was 2, is 1"),
        (model(a=dict[str, int]), model(a=dict[str, str]), "e.a.*", "was an integer, is a string"),
        (model(a=dict[Literal["x"], int]), model(a=dict[Literal["x", "y"], int]), "e.a (keys)", 'may now be "y"'),
        (model(a=int), model(a=Any), "e.a", "may now be anything"),
        (model(a=model(b=int)), model(a=model(c=int)), "e.a.b", "is gone"),
        (Closed, ClosedMore, "e.b", "take no fields that they don't know"),
        (Tree, ChangedTree, "e.name", "was a string, is an integer"),
        (None, int, "e", "was null, is an integer"),
        (model(a=Literal[1]), model(a=Literal[True]), "e.a", "was 1, is true"),
        (Cat | Dog, ChangedCat | Dog, "e.lives", "was an integer, is a string"),
        (model(a=int) | model(b=int), model(a=int) | model(b=int) | model(c=int), "e", "may now be"),
    ],
)
def test_changes_that_break(old: Any, new: Any, place: str, says: str) -> None:
    """What readers get may be something that their version does not allow; the way back is safe or breaks elsewhere."""
    found = [change for change in changes(old, new) if change.breaking]
    assert [change.place for change in found][:1] == [place]
    assert says in found[0].what


@pytest.mark.parametrize(
    ("old", "new", "place", "says"),
    [
        (model(a=int), model(a=int, b=int), "e.b", "is a new field"),
        (model(a=float), model(a=int), None, None),
        (model(a=int | None), model(a=int), "e.a", "is not null any more"),
        (model(a=Literal["x", "y"]), model(a=Literal["x"]), "e.a", 'is not "y" any more'),
        (model(a=str), model(a=Literal["x"]), None, None),
        (model(a=int), model(a=Positive), None, None),
        (model(a=Positive), model(a=Annotated[int, Field(gt=5)]), "e.a", "exclusiveMinimum was 0, is 5"),
        (model(a=list[int | str]), model(a=list[int]), "e.a[]", "is not a string any more"),
        (model(a=Any), model(a=int), None, None),
        (Tree, OtherTree, None, None),
        (bool, Literal[True], "e", "is not false any more"),
        (model(a=Literal[1, True, 0, False]), model(a=Literal[1, True, 0, False]), None, None),
    ],
)  # fmt: skip
def test_changes_that_are_safe(old: Any, new: Any, place: str | None, says: str | None) -> None:
    """All that is sent fits the old version; names of classes count for nothing."""
    found = changes(old, new)
    assert not [change for change in found if change.breaking]
    assert [change.place for change in found] == ([] if place is None else [place])
    assert says is None or says in found[0].what


def test_events_that_come_and_go() -> None:
    """An event that is gone breaks, a new one does not; the order in which they are declared means nothing."""
    one = json_schema(Contract("x", {"a": int, "b": int}))
    other = json_schema(Contract("y", {"b": int, "c": int}))
    assert diff(one, other) == [
        Change(True, "a", "the event is gone: readers wait for it in vain"),
        Change(False, "c", "is a new event"),
    ]
    assert diff(json_schema(events), json_schema(mapped)) == []
