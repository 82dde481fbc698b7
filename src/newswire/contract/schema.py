"""A contract as one JSON Schema document: what its events look like to those who read them.

The document is the source of everything that this package writes for other programs (TypeScript, OpenAPI, AsyncAPI) and
of `newswire types diff`. It describes data as it is sent, so a field with a default is always there, and a `Decimal` is
text. `oneOf` has an object for each event, told apart by `event`; `$defs` has the named types.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import Flag
from typing import Any, Final

from newswire.contract.codec import MsgspecCodec, PydanticCodec
from newswire.contract.contract import Contract
from newswire.validate import check_kind

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
REF: Final = "#/$defs/"
COMPONENTS: Final = "#/components/schemas/"  # where OpenAPI and AsyncAPI have what `REF` leads to


def json_schema(contract: Contract[Any]) -> dict[str, Any]:
    """The document of a contract, as JSON.

    Returns:
        a JSON Schema (2020-12) of an event as `{"event": …, "data": …}`, data decoded.
    """
    data, defs = _data_schemas(contract)
    return {
        "$schema": DIALECT,
        "title": contract.name,
        "oneOf": [
            {
                "title": event,
                "type": "object",
                "properties": {"event": {"const": event}, "data": schema},
                "required": ["event", "data"],
            }
            for event, schema in data.items()
        ],
        "$defs": dict(sorted(defs.items())),
    }


def events_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of each event's data, by the event's name.

    Raises:
        ValueError: the document is not one that `json_schema` makes.
        TypeError: it is the contract itself.
    """
    given: object = document
    if isinstance(given, Contract):
        raise TypeError("this takes the document of a contract, not the contract: give json_schema(contract)")
    try:
        found = {each["properties"]["event"]["const"]: each["properties"]["data"] for each in document["oneOf"]}
        str(document["title"]), dict(document["$defs"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"this is no document of a contract, as `newswire types --json-schema` writes it: {error!r}"
        ) from None
    return found


def resolve(schema: Any, defs: Mapping[str, Any]) -> Any:
    """The schema that a schema refers to, or itself."""
    seen: set[str] = set()
    while isinstance(schema, Mapping) and "$ref" in schema and schema["$ref"] not in seen:
        seen.add(schema["$ref"])
        schema = defs[definition(schema["$ref"])]
    return schema


def definition(ref: str) -> str:
    """The name of the definition that a reference is to."""
    if not ref.startswith(REF):
        raise ValueError(f"a reference to {ref!r} leads out of the document")
    return ref.removeprefix(REF).replace("~1", "/").replace("~0", "~")


def moved(schema: Any, prefix: str, before: str = REF) -> Any:
    """A copy of a schema whose references begin with `prefix` instead of `before`."""
    if isinstance(schema, dict):
        return {
            key: value.replace(before, prefix, 1) if key == "$ref" else moved(value, prefix, before)
            for key, value in schema.items()
        }
    return [moved(each, prefix, before) for each in schema] if isinstance(schema, list) else schema


def _data_schemas(contract: Contract[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    check_kind("contract", contract, Contract)
    pydantics: dict[str, Any] = {}
    structs: dict[str, Any] = {}
    for event in contract.events:
        codec = contract.codec(event)
        if isinstance(codec, PydanticCodec):
            pydantics[event] = codec.adapter
        else:
            structs[event] = codec
    found, defs = _of_pydantic(pydantics) if pydantics else ({}, {})
    if structs:
        more, components = _of_msgspec(structs)
        renamed = {
            name: _free(name, defs, components) for name, one in components.items() if defs.get(name, one) != one
        }
        defs |= {renamed.get(name, name): _rename(one, renamed) for name, one in components.items()}
        found |= {event: _rename(schema, renamed) for event, schema in more.items()}
    return _whole({event: found[event] for event in contract.events}), _whole(defs)


def _whole(schema: Any) -> Any:
    """A copy of a schema in which tuples are sent whole: what has a default, as in a named tuple, is there too."""
    if isinstance(schema, list):
        return [_whole(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: _whole(value) for key, value in schema.items()}
    first = copy.get("prefixItems")
    if isinstance(first, list) and copy.get("maxItems") == len(first):
        copy["minItems"] = len(first)
    return copy


def _of_pydantic(adapters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    class AsSent(GenerateJsonSchema):
        """What is sent has each field, whether or not it has a default."""

        def field_is_required(self, field: Any, total: bool) -> bool:
            if field["type"] == "typed-dict-field":
                return bool(field.get("required", total))
            return field.get("serialization_exclude_if") is None

        def enum_schema(self, schema: Any) -> dict[str, Any]:
            """Flags are sent as a number, also several at once."""
            found = super().enum_schema(schema)
            return _number(found) if issubclass(schema["cls"], Flag) else found

    schemas, rest = TypeAdapter.json_schemas(
        [(event, "serialization", adapter) for event, adapter in adapters.items()],
        ref_template=REF + "{model}",
        schema_generator=AsSent,
    )
    return {event: schemas[event, "serialization"] for event in adapters}, rest.get("$defs", {})


def _of_msgspec(codecs: Mapping[str, MsgspecCodec]) -> tuple[dict[str, Any], dict[str, Any]]:
    import msgspec

    kinds = [codec.kind for codec in codecs.values()]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF + "{name}")
    infos: dict[type, Any] = {}
    for info in msgspec.inspect.multi_type_info(kinds):
        infos |= {each.cls: each for each in _described(info, msgspec.inspect.StructType, set())}
        for each in _described(info, msgspec.inspect.EnumType, set()):
            name = each.cls.__name__
            if issubclass(each.cls, Flag) and components.get(name, {}).get("enum") == [one.value for one in each.cls]:
                components[name] = _number(components[name])
    titles: dict[str, list[Any]] = {}
    for info in infos.values():
        titles.setdefault(info.cls.__name__, []).append(info)
    for name, component in components.items():
        known = titles.get(name, [])
        if len(known) == 1 and not known[0].cls.__struct_config__.omit_defaults and "properties" in component:
            unset = (msgspec.UNSET, msgspec.NODEFAULT)  # neither sent nor there
            optional = {
                each.encode_name
                for each in known[0].fields
                if not each.required and each.default in unset and each.default_factory is msgspec.NODEFAULT
            }
            component["required"] = [each for each in component["properties"] if each not in optional]
    # what msgspec builds has values of Python's in `default`
    return dict(zip(codecs, json.loads(msgspec.json.encode(schemas)), strict=True)), json.loads(
        msgspec.json.encode(components)
    )


def _number(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of the sums of some flags, by the schema of each alone."""
    return {**{key: value for key, value in flags.items() if key != "enum"}, "type": "integer"}


def _described(info: Any, kind: type, seen: set[int]) -> Iterator[Any]:
    """The structs, or the enums, in msgspec's description of a type."""
    if id(info) in seen:
        return
    seen.add(id(info))
    if isinstance(info, kind):
        yield info
    values = [getattr(info, name) for name in getattr(info, "__struct_fields__", ())]
    for value in values:
        for each in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(each, "__struct_fields__"):
                yield from _described(each, kind, seen)


def _free(name: str, *taken: Mapping[str, Any]) -> str:
    number = 2
    while any(f"{name}{number}" in each for each in taken):
        number += 1
    return f"{name}{number}"


def _rename(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, dict):
        return {
            key: REF + names.get(value.removeprefix(REF), value.removeprefix(REF))
            if key == "$ref" and isinstance(value, str)
            else _rename(value, names)
            for key, value in schema.items()
        }
    return [_rename(each, names) for each in schema] if isinstance(schema, list) else schema
