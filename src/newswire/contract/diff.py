"""What changed between two versions of a contract, and which changes break readers that still have the old one.

A reader breaks when it gets what its version does not allow: a field that is missing or has another type, a value out
of the old range, one more member of a union. What is new beside that is safe, since readers leave out events and fields
that they don't know. So the question is one: does everything that the new version sends fit the old one?
`newswire types diff` shows the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from newswire.contract.schema import events_of, resolve

# Bounds that a value keeps: by name, whether a larger number allows less.
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME: Final = ("pattern", "format", "multipleOf", "uniqueItems", "contentEncoding")


class Change(NamedTuple):
    """One change.

    Attributes:
        breaking: whether readers of the old version break.
        place: where, such as `price.value`: an event and a path in its data.
        what: what changed.
    """

    breaking: bool
    place: str
    what: str


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Compare two documents of contracts; see `newswire.contract.schema.json_schema`.

    Returns:
        the changes, those that break readers first; empty if readers see no difference.

    Raises:
        ValueError, TypeError: one of them is no document of a contract.
    """
    before, after = events_of(old), events_of(new)
    compare = _Comparison(old["$defs"], new["$defs"])
    found: list[Change] = []
    for event, schema in before.items():
        if event not in after:
            found.append(Change(True, event, "the event is gone: readers wait for it in vain"))
        else:
            found += compare.changes(schema, after[event], event)
    found += [Change(False, event, "is a new event") for event in after if event not in before]
    return sorted(dict.fromkeys(found), key=lambda change: not change.breaking)


class _Comparison:
    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._old = old
        self._new = new
        self._open: set[tuple[str, str]] = set()  # pairs that are being compared: types may contain themselves

    def changes(self, old: Any, new: Any, place: str) -> list[Change]:
        """The changes between two types."""
        pair = (json.dumps(old, sort_keys=True), json.dumps(new, sort_keys=True))
        if pair in self._open:
            return []
        self._open.add(pair)
        try:
            return self._compare(list(_members(old, self._old)), list(_members(new, self._new)), place)
        finally:
            self._open.discard(pair)

    def _compare(self, old: Sequence[Any], new: Sequence[Any], place: str) -> list[Change]:
        if any(_is_any(each) for each in old):
            return []  # readers take whatever comes
        found: list[Change] = []
        met: set[int] = set()
        for member in new:
            tried = {index: self._member(each, member, place) for index, each in enumerate(old)}
            fits = {index: changes for index, changes in tried.items() if not any(each.breaking for each in changes)}
            alike = [index for index in tried if _kind(old[index]) == _kind(member) and "const" not in member]
            if len(alike) > 1:
                alike = _nearest(old, member, alike)
            if fits:
                best = min(fits, key=lambda index: len(fits[index]))
                met.add(best)
                found += fits[best]
            elif len(alike) == 1 or len(old) == len(new) == 1:
                index = alike[0] if alike else 0
                met.add(index)
                found += tried[index]
            else:
                met.update(alike)
                was = " or ".join(dict.fromkeys(map(_shown, old)))
                found.append(Change(True, place, f"may now be {_shown(member)}; it was {was}"))
        gone = [each for index, each in enumerate(old) if index not in met]
        found += [Change(False, place, f"is not {_shown(each)} any more") for each in gone]
        return found

    def _member(self, old: Any, new: Any, place: str) -> list[Change]:
        if _is_any(new):
            return [Change(True, place, f"may now be anything; it was {_shown(old)}")]
        if "const" in old:
            return [] if _equal(old, new) else [Change(True, place, f"was {_shown(old)}, is {_shown(new)}")]
        if "const" in new:
            same = _kind(old) == _kind(new) or (_kind(old) == "number" and _kind(new) == "integer")
            return [] if same else [Change(True, place, f"was {_shown(old)}, is {_shown(new)}")]
        kinds = _kind(old), _kind(new)
        if kinds[0] != kinds[1] and kinds != ("number", "integer"):
            return [Change(True, place, f"was {_shown(old)}, is {_shown(new)}")]
        found = list(_bounds(old, new, place))
        if kinds[0] == "array":
            found += self._array(old, new, place)
        elif kinds[0] == "object":
            found += self._object(old, new, place)
        return found

    def _array(self, old: Any, new: Any, place: str) -> list[Change]:
        found: list[Change] = []
        firsts = old.get("prefixItems", ()), new.get("prefixItems", ())
        for index in range(max(map(len, firsts))):
            here = f"{place}[{index}]"
            was, now = _item(old, index), _item(new, index)
            if was is False and now is not False:
                found.append(Change(True, here, "is one item more"))
            elif was is not False and now is not False:
                found += self.changes(was, now, here)
        was, now = old.get("items", True), new.get("items", True)
        if was is not False and now is not False:
            found += self.changes(was, now, f"{place}[]")
        return found

    def _object(self, old: Any, new: Any, place: str) -> list[Change]:
        found: list[Change] = []
        before, after = old.get("properties", {}), new.get("properties", {})
        needed, given = set(old.get("required", ())), set(new.get("required", ()))
        for name, schema in before.items():
            here = f"{place}.{name}"
            if name not in after:
                found.append(Change(name in needed, here, "is gone"))
                continue
            if name in needed and name not in given:
                found.append(Change(True, here, "may now be missing"))
            elif name in given and name not in needed:
                found.append(Change(False, here, "is always there now"))
            found += self.changes(schema, after[name], here)
        more, more_now = _more(old), _more(new)
        for name, schema in after.items():
            if name in before:
                continue
            here = f"{place}.{name}"
            if more is False and old.get("additionalProperties") is False:
                found.append(Change(True, here, "is a new field, and readers take no fields that they don't know"))
            elif more not in (False, True):
                found += self.changes(more, schema, here)
            else:
                found.append(Change(False, here, "is a new field"))
        if more_now is not False and old.get("additionalProperties") is False:
            found.append(Change(True, place, "may now have fields of any name"))
        elif more_now is not False and more is not False:
            found += self.changes(more, more_now, f"{place}.*")
        keys = old.get("propertyNames"), new.get("propertyNames")
        if keys[0] is not None:
            found += self.changes(
                keys[0], {"type": "string"} if keys[1] is None else {"type": "string", **keys[1]}, f"{place} (keys)"
            )
        return found


def _members(schema: Any, defs: Mapping[str, Any]) -> Iterator[Any]:
    """The types that a union is made of, each with one `type` or one `const`; others give themselves."""
    schema = resolve(schema, defs)
    if not isinstance(schema, Mapping):
        yield schema
        return
    for key in ("anyOf", "oneOf"):
        if key in schema:
            for each in schema[key]:
                yield from _members(each, defs)
            return
    if len(schema.get("allOf", ())) == 1:
        yield from _members(schema["allOf"][0], defs)
    elif "const" in schema:
        yield {"const": schema["const"]}
    elif "enum" in schema:
        yield from ({"const": each} for each in schema["enum"])
    elif schema.get("type") == "boolean":
        yield from ({"const": False}, {"const": True})
    elif isinstance(schema.get("type"), list):
        for kind in schema["type"]:
            yield from _members({**schema, "type": kind}, defs)
    else:
        yield schema


def _equal(one: Any, other: Any) -> bool:
    """Whether two schemas, or values of JSON, are equal; to Python true is 1, too."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _nearest(old: Sequence[Any], new: Any, alike: list[int]) -> list[int]:
    """Those of the objects of a union that a new one stands for: by the constants that tell them apart, or by name."""
    for mark in (_constants, lambda schema: schema.get("title")):
        found = [index for index in alike if mark(new) and _equal(mark(old[index]), mark(new))]
        if len(found) == 1:
            return found
    return alike


def _constants(schema: Mapping[str, Any]) -> dict[str, Any]:
    fields: Mapping[str, Any] = schema.get("properties", {})
    return {name: field["const"] for name, field in fields.items() if isinstance(field, Mapping) and "const" in field}


def _is_any(schema: Any) -> bool:
    return schema is True or (
        isinstance(schema, Mapping) and not any(key in schema for key in ("type", "const", "properties", "allOf"))
    )


def _kind(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "never"
    if "const" in schema:
        value = schema["const"]
        for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
            if isinstance(value, kind):
                return name
        return "null" if value is None else "object"
    return str(schema.get("type", "object" if "properties" in schema else "never"))


def _shown(schema: Any) -> str:
    if isinstance(schema, Mapping) and "const" in schema:
        return json.dumps(schema["const"])
    kind = _kind(schema)
    if kind == "object" and "title" in schema:
        return str(schema["title"])
    article = "an" if kind in ("integer", "array", "object") else "a"
    return kind if kind in ("null", "never") else f"{article} {kind}"


def _bounds(old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> Iterator[Change]:
    for name in (*_LOWER, *_UPPER):
        if name not in old or old[name] == new.get(name):
            continue
        now = new.get(name)
        wider = now is None or (now < old[name] if name in _LOWER else now > old[name])
        yield Change(wider, place, f"{name} was {old[name]}, {'is gone' if now is None else f'is {now}'}")
    for name in _SAME:
        if name in old and old[name] != new.get(name):
            now = new.get(name)
            yield Change(True, place, f"{name} was {old[name]}, {'is gone' if now is None else f'is {now}'}")


def _item(schema: Mapping[str, Any], index: int) -> Any:
    first = schema.get("prefixItems", ())
    if index < len(first):
        return first[index]
    most = schema.get("maxItems")
    return False if most is not None and index >= most else schema.get("items", True)


def _more(schema: Mapping[str, Any]) -> Any:
    """The type of the fields that have no name of their own. A model sends none, if it does not say otherwise."""
    if schema.get("patternProperties"):
        return next(iter(schema["patternProperties"].values()))
    return schema.get("additionalProperties", "properties" not in schema)
