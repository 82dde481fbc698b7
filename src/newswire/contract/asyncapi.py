"""A contract as an AsyncAPI 3.0 document: one channel, one message for each event, sent by the application.

AsyncAPI has no binding for server-sent events, so the document says HTTP, and `x-sse` says how an event is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from newswire.contract.schema import COMPONENTS, events_of, moved


def asyncapi(
    document: Mapping[str, Any], *, address: str = "/channels/{channel}", version: str = "1.0.0"
) -> dict[str, Any]:
    """The AsyncAPI document of a contract's document.

    Args:
        document: see `newswire.contract.schema.json_schema`.
        address: where the stream is, as a path; each `{name}` in it is a parameter.
        version: the version of your API.

    Raises:
        ValueError, TypeError: the document is no contract's.
    """
    events = events_of(document)
    title = str(document["title"])
    parameters: dict[str, Any] = {part.partition("}")[0]: {} for part in address.split("{")[1:]}
    channel = {
        "address": address,
        "messages": {name: {"$ref": f"#/components/messages/{_pointer(name)}"} for name in events},
        **({"parameters": parameters} if parameters else {}),
        "bindings": {"http": {}},
    }
    messages = {
        name: {
            "name": name,
            "title": name,
            "contentType": "application/json",
            "payload": moved(schema, COMPONENTS),
            "x-sse": {"event": name},
        }
        for name, schema in events.items()
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version},
        "defaultContentType": "application/json",
        "channels": {"stream": channel},
        "operations": {
            "sendEvents": {
                "action": "send",
                "channel": {"$ref": "#/channels/stream"},
                "messages": [{"$ref": f"#/channels/stream/messages/{_pointer(name)}"} for name in events],
                "bindings": {"http": {"method": "GET"}},
            }
        },
        "components": {"messages": messages, "schemas": moved(dict(document["$defs"]), COMPONENTS)},
    }


def _pointer(name: str) -> str:
    """A name in a JSON pointer of a URI fragment."""
    return quote(name.replace("~", "~0").replace("/", "~1"), safe="~")
