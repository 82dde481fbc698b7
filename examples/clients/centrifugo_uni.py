"""Centrifugo's uni_sse: no ids and no event types; the offset and epoch of each channel go into the next URL."""

import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from newswire.client import EventSource, Options


def subscribe(*channels: str, url: str, token: str = "", options: Options | None = None) -> Iterator[tuple[str, Any]]:
    """Each publication: its channel and its data. Recovers what was published while the connection was gone.

    Raises:
        RuntimeError: the server disconnects this client for good.
    """
    places: dict[str, dict[str, Any]] = {channel: {} for channel in channels}

    def where() -> str:
        return f"{url}?cf_connect={quote(json.dumps({'token': token, 'subs': places}))}"

    with EventSource(where, options=options) as source:
        for event in source:
            push = event.json()
            for channel, sub in push.get("connect", {}).get("subs", {}).items():
                missed = sub.get("publications", [])
                if sub.get("recoverable"):
                    places[channel] = {"recover": True, "epoch": sub["epoch"], "offset": sub.get("offset", 0)}
                yield from ((channel, each["data"]) for each in missed)
            if "pub" in push:
                channel = push["channel"]
                if "offset" in push["pub"]:
                    places[channel]["offset"] = push["pub"]["offset"]
                yield channel, push["pub"]["data"]
            if 3500 <= push.get("disconnect", {}).get("code", 0) < 4000:  # codes that say: don't come back
                raise RuntimeError(push["disconnect"]["reason"])


if __name__ == "__main__":
    for channel, data in subscribe(*sys.argv[2:], url=sys.argv[1]):
        print(channel, data, flush=True)
