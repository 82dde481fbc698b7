"""Checks the events of a stream by an OpenAPI document: also the data, which most tools take for any text.

A document says of an event's data that it is text (`type: string`) which has JSON of a schema in it (`contentSchema`).
JSON Schema leaves `contentSchema` to its readers, so a tool that checks `itemSchema` alone finds a wrong event name,
and no wrong price. `StreamChecker` decodes the data and checks it too. It is for tests: of your own server, or of any
other with such a document. It needs jsonschema (the extra `contract-check`).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from newswire.contract.codec import Fault
from newswire.contract.schema import COMPONENTS, REF, definition, moved
from newswire.validate import check_kind
from newswire.wire.decoder import Decoder
from newswire.wire.event import Event
from newswire.wire.headers import CONTENT_TYPE

_MISSING: Final = "the checker needs jsonschema, which is not installed: pip install 'newswire[contract-check]'"


class StreamChecker:
    """Checks events by the schema of one operation of an OpenAPI document (3.1 or 3.2).

    Args:
        document: the document, as JSON.
        path: the path in it.
        method: of the operation.

    Raises:
        ImportError: jsonschema is not installed.
        ValueError: the document has no stream there.
        TypeError: an argument is of another kind.
    """

    def __init__(self, document: Mapping[str, Any], path: str, method: str = "get") -> None:
        try:
            jsonschema: Any = importlib.import_module("jsonschema")
        except ImportError:
            raise ImportError(_MISSING) from None
        check_kind("document", document, Mapping)
        check_kind("path", path, str)
        check_kind("method", method, str)
        try:
            media = document["paths"][path][method]["responses"]["200"]["content"][CONTENT_TYPE]
            item = media["itemSchema"] if "itemSchema" in media else media["schema"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"the document has no stream at {method.upper()} {path}: {error} is missing") from None
        self._make = jsonschema.Draft202012Validator
        components = document.get("components", {}).get("schemas", {})
        self._types: Mapping[str, Any] = moved(components, REF, COMPONENTS)
        self._item = self._resolve(moved(item, REF, COMPONENTS))

    def check(self, events: Iterable[Event] | bytes) -> list[tuple[Event, Fault]]:
        """Check events.

        Args:
            events: decoded events, or the bytes of a stream. An event whose blank line has not come is none yet (WHATWG
                HTML 9.2.6).

        Returns:
            pairs of an event and what is wrong with it; empty if all is well.

        Raises:
            DecodeLimitExceeded: the bytes have a line or an event of more than 16 MiB.
        """
        if isinstance(events, bytes):
            events = Decoder().feed(events)
        return [(event, fault) for event in events for fault in self.faults(event)]

    def faults(self, event: Event) -> list[Fault]:
        """What is wrong with one event."""
        item: dict[str, Any] = {"data": event.data}
        if event.event != "message":
            item["event"] = event.event
        if event.id is not None:
            item["id"] = event.id
        schema = self._of(event.event)
        if schema is None:
            return [Fault("event", f"{event.event!r} is not declared")]
        faults = self._validate(schema, item, "")
        data = self._resolve(schema.get("properties", {}).get("data", {}))
        if "contentSchema" not in data:
            return faults
        try:
            value = json.loads(event.data)
        except ValueError as error:
            return [*faults, Fault("data", f"is not {data.get('contentMediaType', 'JSON')}: {error}")]
        return faults + self._validate(data["contentSchema"], value, "data")

    def _of(self, name: str) -> Any:
        """The schema of events of one name, of a union by name; the schema itself where there is no union."""
        members = self._item.get("oneOf") or self._item.get("anyOf")
        if members is None:
            return self._item
        for member in map(self._resolve, members):
            event = self._resolve(member.get("properties", {}).get("event", {}))
            if name == event.get("const", "message") or name in event.get("enum", ()):
                return member
        return None

    def _resolve(self, schema: Any) -> Any:
        while isinstance(schema, Mapping) and "$ref" in schema:
            schema = self._types[definition(schema["$ref"])]
        return schema

    def _validate(self, schema: Any, value: Any, root: str) -> list[Fault]:
        validator = self._make({"$defs": self._types, "allOf": [schema]})
        return [
            Fault(f"{root}{_path(error.absolute_path)}".lstrip("."), error.message[:200])
            for error in validator.iter_errors(value)
        ]


def _path(places: Iterable[str | int]) -> str:
    return "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places)
