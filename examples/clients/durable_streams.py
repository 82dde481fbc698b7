"""Durable Streams, the protocol under Electric: the offset comes in `control` events, and goes into the next URL."""

import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

from newswire.client import EventSource, Options


def read(
    stream: str,
    *,
    offset: str = "-1",
    saved: Callable[[str], None] = lambda offset: None,
    options: Options | None = None,
) -> Iterator[Any]:
    """The messages of a JSON stream from an offset on; `saved` gets the offset behind what was given.

    The server ends each connection after a minute, so that caches can share them; `cursor` keeps those apart.
    """
    place = {"offset": offset, "live": "sse"}

    def where() -> str:
        return f"{stream}?{urlencode(place)}"

    with EventSource(where, options=options) as source:
        for event in source:
            said = event.json()
            if event.event == "data":
                yield from said
            elif event.event == "control":
                place["offset"] = said["streamNextOffset"]
                if "streamCursor" in said:
                    place["cursor"] = said["streamCursor"]
                saved(place["offset"])
                if said.get("streamClosed"):
                    return


if __name__ == "__main__":
    for message in read(sys.argv[1]):
        print(message, flush=True)
