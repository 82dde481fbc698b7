"""A contract's document as TypeScript: types alone, so that a page's bundle has nothing of it.

`newswire types --ts` writes the file. `Events` is for `connect<Events>(url)` of the npm package `newswire`; the union
of the events is for code of one's own. It writes what `newswire.contract.schema` can contain: all that pydantic and
msgspec make of types. A part that TypeScript can't say, such as a pattern of a text, is left out: its type is wider,
never wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from newswire.contract.schema import definition, events_of

_PLAIN: Final = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)
_OURS: Final = ("Events", "EventName")
# Names that TypeScript does not let a type have.
_TAKEN: Final = re.compile(
    "any|unknown|never|void|null|undefined|string|number|boolean|bigint|symbol|object|true|false|this|typeof|keyof|infer|"
    "readonly|unique|asserts|is|await|async|break|case|catch|class|const|continue|debugger|default|delete|do|else|enum|"
    "export|extends|finally|for|function|if|import|in|instanceof|new|return|super|switch|throw|try|var|while|with|yield|"
    "let|static|implements|interface|package|private|protected|public|type|namespace|module|declare|abstract|as"
)
_INDENT: Final = "  "
# Groups that need brackets inside another type.
_UNION, _ATOM = 0, 1


def typescript(document: Mapping[str, Any], *, source: str = "") -> str:
    """The TypeScript of a contract's document; see `newswire.contract.schema.json_schema`.

    Args:
        document: the document.
        source: what the file was made of, such as `shop.contract:events`; for its first line.

    Raises:
        ValueError, TypeError: the document is no contract's.
    """
    return _Writer(document).file(source)


class _Writer:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._events = events_of(document)
        self._title = str(document["title"])
        self._defs: Mapping[str, Any] = document["$defs"]
        taken = set(_OURS)
        self._union = _name(self._title, taken, "Event")
        self._names = {name: _name(name, taken) for name in self._defs}

    def file(self, source: str) -> str:
        made = f"newswire types {source} --ts" if source else "newswire types --ts"
        lines = [
            f"// Made by `{made}` from the contract {json.dumps(self._title)}. Do not edit: change the contract.",
            "",
        ]
        for name, schema in self._defs.items():
            lines += [*_comment(schema, ""), f"export type {self._names[name]} = {self._type(schema, '')};", ""]
        lines += ["/** The data of each event, by its name: `connect<Events>(url)`. */", "export type Events = {"]
        for event, schema in self._events.items():
            lines.append(f"{_INDENT}{json.dumps(event)}: {self._type(schema, _INDENT)};")
        lines += ["};", "", "export type EventName = keyof Events;", ""]
        lines += ["/** An event: `event` says which, and so what `data` is. */", f"export type {self._union} ="]
        fields = "id?: string; channel?: string | null"
        lines += [
            f"{_INDENT}| {{ event: {json.dumps(event)}; data: Events[{json.dumps(event)}]; {fields} }}"
            for event in self._events
        ]
        return "\n".join(lines) + ";\n"

    # -- one type

    def _type(self, schema: Any, indent: str, level: int = _UNION) -> str:
        """The type of a schema. With `_ATOM`, one that may stand before `[]`."""
        if schema is True or schema == {}:
            return "unknown"
        if schema is False:
            return "never"
        if "$ref" in schema:
            return self._names[definition(schema["$ref"])]
        if "const" in schema:
            return _literal(schema["const"])
        if "enum" in schema:
            return _joined([_literal(each) for each in schema["enum"]], level)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return _joined([self._type(each, indent) for each in schema[key]], level)
        if "allOf" in schema:
            parts = [self._type(each, indent, _ATOM) for each in schema["allOf"]]
            return parts[0] if len(parts) == 1 else f"({' & '.join(parts)})"
        kinds = schema.get("type")
        if isinstance(kinds, Sequence) and not isinstance(kinds, str):
            return _joined([self._type({**schema, "type": kind}, indent) for kind in kinds], level)
        if kinds == "array":
            return self._array(schema, indent, level)
        if kinds == "object" or "properties" in schema:
            return self._object(schema, indent)
        return _PLAIN.get(str(kinds), "unknown")

    def _array(self, schema: Mapping[str, Any], indent: str, level: int) -> str:
        first = schema.get("prefixItems")
        rest = schema.get("items", True)
        most = schema.get("maxItems")
        if first is None and most == 0:
            return "[]"
        if first is None:
            return f"{self._type(rest, indent, _ATOM)}[]"
        least = schema.get("minItems", 0)
        items = [self._type(each, indent, _ATOM) + ("?" if index >= least else "") for index, each in enumerate(first)]
        if rest is not False and (most is None or most > len(first)):
            items.append(f"...{self._type(rest, indent, _ATOM)}[]")
        return f"[{', '.join(items)}]"

    def _object(self, schema: Mapping[str, Any], indent: str) -> str:
        properties: Mapping[str, Any] = schema.get("properties", {})
        extra = schema.get("additionalProperties", "properties" not in schema)
        patterns = list(schema.get("patternProperties", {}).values())
        inner = indent + _INDENT
        if not properties:
            return self._mapping(schema, [*patterns, *([extra] if extra is not False else [])], indent)
        required = set(schema.get("required", ()))
        lines = []
        for name, each in properties.items():
            lines += _comment(each, inner)
            optional = "" if name in required else "?"
            lines.append(f"{inner}{_key(name)}{optional}: {self._type(each, inner)};")
        if extra is not False or patterns:  # the type of an index covers the named properties too
            lines.append(f"{inner}[key: string]: unknown;")
        return "\n".join(["{", *lines, f"{indent}}}"])

    def _mapping(self, schema: Mapping[str, Any], values: Sequence[Any], indent: str) -> str:
        """An object with keys of any name."""
        if not values:
            return "{ [key: string]: never }"
        value = _joined([self._type(each, indent) for each in values], _UNION)
        names = schema.get("propertyNames", {})
        if "$ref" in names:
            names = self._defs[definition(names["$ref"])]
        keys = names.get("enum", [names["const"]] if "const" in names else None)
        if keys:
            return f"{{ [K in {_joined([_literal(each) for each in keys], _UNION)}]?: {value} }}"
        return f"{{ [key: string]: {value} }}"


def _joined(types: Sequence[str], level: int) -> str:
    different = list(dict.fromkeys(types))
    if "unknown" in different:
        return "unknown"
    if not different:
        return "never"
    text = " | ".join(different)
    return f"({text})" if len(different) > 1 and level == _ATOM else text


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{ {' '.join(f'{_key(key)}: {_literal(each)};' for key, each in value.items())} }}"
    return json.dumps(value)


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def _name(text: str, taken: set[str], ending: str = "") -> str:
    """A name for a type, which no other one has; takes it."""
    words = [word for word in re.split(r"[^A-Za-z0-9$]+", text) if word]
    name = "".join(word[:1].upper() + word[1:] for word in words) + ending
    if _IDENTIFIER.fullmatch(text) and not ending and not text.endswith("_") and "__" not in text:
        name = text  # a class's own name
    if not _IDENTIFIER.fullmatch(name) or _TAKEN.fullmatch(name):
        name = f"Type{name}"
    number, free = 2, name
    while free in taken:
        free = f"{name}{number}"
        number += 1
    taken.add(free)
    return free


def _comment(schema: Any, indent: str) -> list[str]:
    """The description of a schema as a comment."""
    text = schema.get("description") if isinstance(schema, Mapping) else None
    if not text:
        return []
    lines = str(text).replace("*/", "* /").strip().splitlines()
    if len(lines) == 1:
        return [f"{indent}/** {lines[0].strip()} */"]
    return [f"{indent}/**", *(f"{indent} * {line.strip()}".rstrip() for line in lines), f"{indent} */"]
