"""A contract in an OpenAPI document: the events of a stream, as the `itemSchema` of its media type (OpenAPI 3.2).

An item of `text/event-stream` is an event before its data is decoded: `event` says which it is, and `data` is text that
has JSON in it (`contentMediaType`, `contentSchema`). The schema is a union by name, newswire's own events among them. A
document of OpenAPI 3.1 has no `itemSchema`; there the same union is the media type's `schema`, which is how tools that
check streams read such documents.

`describe` changes any document; `describe_fastapi` and `describe_litestar` change what an application makes of itself.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from newswire.contract.contract import Contract
from newswire.contract.schema import COMPONENTS, events_of, json_schema, moved
from newswire.validate import check_kind, shown
from newswire.wire.headers import CONTENT_TYPE
from newswire.wire.reserved import END, ERROR, GAP, GOODBYE, LIVE, PRESENCE

Version: TypeAlias = Literal["3.2", "3.1"]

_VERSIONS: Final = {"3.2": "3.2.0", "3.1": "3.1.1"}
_PARAMETER: Final = re.compile(r"\{[^}]*\}")


def item_schema(contract: Contract[Any], *, prefix: str = "#/$defs/") -> dict[str, Any]:
    """The schema of one event of a stream: a union by its name.

    Args:
        contract: the contract.
        prefix: where the named types are; as `components` gives them for `#/components/schemas/`.
    """
    document = json_schema(contract)
    return {
        "title": f"{contract.name} event",
        "oneOf": [_item(name, moved(schema, prefix)) for name, schema in events_of(document).items()]
        + [
            _item(GAP, _OWN | {"description": "Events are missing here"}),
            _item(GOODBYE, _OWN | {"description": "The stream ends, and its client should come back"}),
            _item(END, {"description": "The stream is over for good"}),
            _item(ERROR, {"description": "The content of the stream failed"}),
            _item(LIVE, {"description": "All that was stored has arrived; what follows is live"}),
            _item(PRESENCE, _MEMBERS | {"description": "A member of a channel has come, changed or left"}),
        ],
    }


_OWN: Final[dict[str, Any]] = {"type": "object"}
_MEMBERS: Final = _OWN | {
    "required": ["channel", "member", "change"],
    "properties": {
        "channel": {"type": "string"},
        "member": {"type": "string"},
        "change": {"enum": ["join", "update", "leave"]},
        "state": {},
    },
}


def _item(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """One event. `message` is the type of an event that names none."""
    required = ["data"] if name == "message" else ["event", "data"]
    return {
        "title": name,
        "type": "object",
        "required": required,
        "properties": {
            "event": {"const": name},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": dict(data)},
            "id": {"type": "string"},
            "retry": {"type": "integer", "minimum": 0},
        },
    }


def describe(
    document: dict[str, Any], streams: Mapping[str, Contract[Any]], *, version: Version = "3.2"
) -> dict[str, Any]:
    """Put contracts into an OpenAPI document.

    Args:
        document: the document; it is changed.
        streams: the contract of each path, such as `/events`, whose GET (or any other method that it has) answers with
            a stream. `{user_id}` and `{name}` are the same path.
        version: the version that the document gets: `3.2` with `itemSchema`, or `3.1` with `schema`.

    Returns:
        the document.

    Raises:
        ValueError: the document has no such path, or `version` is neither.
        TypeError: an argument is of another kind.
    """
    _check(streams, version)
    check_kind("document", document, dict)
    paths: dict[str, Any] = document.get("paths", {})
    shapes = {_PARAMETER.sub("{}", path): path for path in paths}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for path, contract in streams.items():
        found = shapes.get(_PARAMETER.sub("{}", path))
        if found is None:
            raise ValueError(f"the document has no path {path!r}; it has {', '.join(sorted(paths)) or 'none'}")
        name = _add(schemas, contract)
        for method, operation in paths[found].items():
            if method in ("get", "post", "put", "patch", "delete", "query") and isinstance(operation, dict):
                _answer(operation, {"$ref": COMPONENTS + name}, version)
    document["openapi"] = _VERSIONS[version]
    return document


def _check(streams: object, version: object) -> None:
    if version not in _VERSIONS:
        raise ValueError(f"version is '3.2' or '3.1', not {version!r}")
    if not isinstance(streams, Mapping) or not all(isinstance(each, Contract) for each in streams.values()):
        raise TypeError(f"streams is a mapping from paths to contracts, not {shown(streams)}")


def _add(schemas: dict[str, Any], contract: Contract[Any]) -> str:
    """Put the types of a contract among the components. Returns the name of the union."""
    prefix = "".join(re.findall(r"[A-Za-z0-9._-]+", contract.name)) or "Contract"
    # Names of their own: the application may have another type of the same name, as FastAPI's of requests.
    types = f"{prefix}."
    for name, schema in json_schema(contract)["$defs"].items():
        schemas[types + name] = moved(schema, COMPONENTS + types)
    schemas[f"{prefix}.Event"] = item_schema(contract, prefix=COMPONENTS + types)
    return f"{prefix}.Event"


def _answer(operation: dict[str, Any], item: dict[str, Any], version: Version) -> None:
    responses = operation.setdefault("responses", {})
    answer = responses.setdefault("200", {})
    answer.setdefault("description", "A stream of events")
    content = answer.setdefault("content", {})
    content.pop("application/json", None)  # what a framework supposes of a route that says nothing
    content[CONTENT_TYPE] = {"itemSchema": item} if version == "3.2" else {"schema": item}


def describe_fastapi(app: Any, streams: Mapping[str, Contract[Any]], *, version: Version = "3.2") -> None:
    """Make a FastAPI application put contracts into its schema, at `/openapi.json` and in its pages.

    Args:
        app: the application.
        streams, version: see `describe`. The paths are looked for when the schema is first made.

    Raises:
        TypeError, ValueError: an argument is of another kind.
    """
    _check(streams, version)
    if not callable(getattr(app, "openapi", None)):
        raise TypeError(f"app is a FastAPI application, not {shown(app)}")
    make: Callable[[], dict[str, Any]] = app.openapi

    @functools.wraps(make)
    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = describe(make(), streams, version=version)
        schema: dict[str, Any] = app.openapi_schema
        return schema

    app.openapi = openapi


def describe_litestar(app: Any, streams: Mapping[str, Contract[Any]], *, version: Version = "3.2") -> None:
    """Make a Litestar application put contracts into its schema, at `/schema/openapi.json` and in its pages.

    Args:
        app: the application.
        streams, version: see `describe`. The paths are looked for at once.

    Raises:
        TypeError, ValueError: an argument is of another kind, or the application makes no OpenAPI document.
    """
    if not hasattr(app, "plugins"):
        raise TypeError(f"app is a Litestar application, not {shown(app)}")
    plugin = next((each for each in app.plugins if hasattr(each, "provide_openapi_schema")), None)
    if plugin is None or app.openapi_config is None:
        raise ValueError("the application makes no OpenAPI document: give it an openapi_config")
    describe(plugin.provide_openapi_schema(), streams, version=version)  # the plugin keeps this dict, and serves it
