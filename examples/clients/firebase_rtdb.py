"""Firebase's Realtime Database: `put` and `patch` keep a copy of a node; each connection begins with all of it."""

import sys
from collections.abc import Iterator
from typing import Any

from newswire.client import EventSource, Options


def follow(node: str, *, options: Options | None = None) -> Iterator[Any]:
    """The node's value after each change. `node` is its URL with `.json`; Firebase redirects to where it is.

    Raises:
        PermissionError: the rules don't allow it any more, or the token in the URL has expired.
    """
    value: Any = None
    with EventSource(node, options=options) as source:
        for event in source:
            if event.event in ("cancel", "auth_revoked"):
                raise PermissionError(event.data)
            if event.event not in ("put", "patch"):
                continue  # keep-alive
            change = event.json()
            keys = [key for key in change["path"].split("/") if key]
            if event.event == "put":
                value = put(value, keys, change["data"])
            else:
                for path, data in change["data"].items():
                    value = put(value, [*keys, *path.strip("/").split("/")], data)
            yield value


def put(value: Any, keys: list[str], data: Any) -> Any:
    """`value` with `data` at `keys`; null removes, as in Firebase."""
    if not keys:
        return data
    value = dict(value) if isinstance(value, dict) else {}
    value[keys[0]] = put(value.get(keys[0]), keys[1:], data)
    return {key: item for key, item in value.items() if item is not None} or None


if __name__ == "__main__":
    for value in follow(sys.argv[1]):
        print(value, flush=True)
