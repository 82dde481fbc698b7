"""The JSON Schema document of a contract: data as it is sent."""

from __future__ import annotations

import json
from enum import Flag, IntFlag
from typing import Any, NamedTuple

import msgspec
import pytest
from pydantic import BaseModel
from tests.contract.shop import Order, Ping, Price, events

from newswire.contract import Contract, asyncapi, diff, typescript
from newswire.contract.schema import events_of, json_schema, resolve


class Inner(msgspec.Struct):
    a: int = 1


class Sparse(msgspec.Struct, omit_defaults=True):
    a: int = 1
    inner: Inner | None = None


class Full(msgspec.Struct, rename="camel"):
    some_name: str = "x"
    maybe: int | msgspec.UnsetType = msgspec.UNSET


@pytest.mark.slow
def test_the_document_is_a_schema_and_every_published_event_fits_it(jsonschema: Any) -> None:
    """Event and data together, for each kind of type."""
    document = json_schema(events)
    jsonschema.Draft202012Validator.check_schema(document)
    validator = jsonschema.Draft202012Validator(document)
    for value in (Price(symbol="A", value=1), Ping("h", 1.5), None, ["a"]):
        event = events.encode(value)
        validator.validate({"event": event.event, "data": json.loads(event.data)})
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"event": "price", "data": {"symbol": "A", "value": 0}})
    assert json.loads(json.dumps(document)) == document
    assert [*events_of(document)] == [*events.events]


@pytest.mark.parametrize(
    ("kind", "required"),
    [
        (Order, ["number", "total", "placed", "lines"]),  # `lines` has a default, and is sent
        (Full, ["someName"]),
        (Sparse, []),
        (Inner, ["a"]),
    ],
)
def test_a_field_with_a_default_is_required_if_it_is_always_sent(kind: Any, required: list[str]) -> None:
    """Of pydantic's models and msgspec's structs, by the names that are sent."""
    document = json_schema(Contract("x", {"e": kind}))
    found = resolve(events_of(document)["e"], document["$defs"])
    assert found.get("required", []) == required
    contract = Contract("x", {"e": kind})
    if kind is not Order:
        assert set(required) == set(json.loads(contract.encode(kind()).data))


class Rights(IntFlag):
    READ = 1
    WRITE = 2


class Days(Flag):
    MONDAY = 1
    TUESDAY = 2


class Point(NamedTuple):
    x: int
    y: int = 0


class Model(BaseModel):
    rights: Rights
    days: list[Days]
    point: Point


class Struct(msgspec.Struct):
    rights: Rights
    days: list[Days]
    point: Point


@pytest.mark.parametrize("kind", [Model, Struct])
def test_sums_of_flags_and_whole_tuples_are_sent(kind: Any, jsonschema: Any) -> None:
    """A flag may be any sum of its members, and a named tuple is sent with its defaults: the document says so."""
    contract = Contract("x", {"e": kind})
    document = json_schema(contract)
    validator = jsonschema.Draft202012Validator(document)
    value = kind(rights=Rights.READ | Rights.WRITE, days=[Days.MONDAY | Days.TUESDAY], point=Point(1))
    data = json.loads(contract.encode(value).data)
    assert data == {"rights": 3, "days": [3], "point": [1, 0]}
    validator.validate({"event": "e", "data": data})
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"event": "e", "data": {**data, "point": [1]}})


def test_types_of_one_name_stay_apart() -> None:
    """A pydantic model and a struct may have the same name."""

    class Price(msgspec.Struct):
        cents: int

    model, struct = _model(), Price
    document = json_schema(Contract("x", {"a": model, "b": struct}))
    found = events_of(document)
    assert found["a"] != found["b"]
    assert resolve(found["b"], document["$defs"])["properties"].keys() == {"cents"}


def _model() -> Any:
    class Price(BaseModel):
        symbol: str

    return Price


@pytest.mark.parametrize("make", [typescript, asyncapi, lambda contract: diff(contract, contract)])
def test_a_contract_is_not_its_document(make: Any) -> None:
    """What takes a document says where it comes from; and what takes a contract takes nothing else."""
    with pytest.raises(TypeError, match=r"not the contract: give json_schema\(contract\)"):
        make(events)
    with pytest.raises(TypeError, match=r"contract is a Contract, not \{'title': 'x'\}"):
        json_schema({"title": "x"})  # type: ignore[arg-type]


@pytest.mark.parametrize("document", [{}, {"oneOf": 1}, {"oneOf": [{}]}, {"oneOf": []}, [], None, {"title": "x"}])
def test_what_is_no_document(document: Any) -> None:
    """A file of another kind is refused with a sentence."""
    with pytest.raises(ValueError, match="no document of a contract"):
        events_of(document)
