"""Ably's SSE endpoint: ids that resume for two minutes, a new token for each attempt, errors as events."""

import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

from newswire.client import EventSource, Options

TOKEN_EXPIRED = range(40140, 40150)


def subscribe(
    *channels: str,
    token: Callable[[], str],
    base: str = "https://main.realtime.ably.net",
    options: Options | None = None,
) -> Iterator[dict[str, Any]]:
    """The messages of channels: `name`, `data`, `channel`, `timestamp` and more.

    Raises:
        RuntimeError: an error that a new token won't cure.
    """
    query = urlencode({"channels": ",".join(channels), "v": "2"})

    def headers() -> dict[str, str]:
        return {"authorization": f"Bearer {token()}"}

    with EventSource(f"{base}/event-stream?{query}", headers=headers, options=options) as source:
        for event in source:
            if event.event == "message":
                yield event.json()
            elif event.event == "error":
                error = event.json()
                if error["code"] not in TOKEN_EXPIRED:  # else they close the stream, and we come back with a new one
                    raise RuntimeError(f"{error['code']}: {error['message']}")


if __name__ == "__main__":
    for message in subscribe(*sys.argv[2:], token=lambda: sys.argv[1]):
        print(message, flush=True)
