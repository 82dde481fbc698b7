"""Mercure: topics, and a `Last-Event-ID` in the answer's head that says whether the hub could go on from ours."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlencode

from newswire.client import EventSource, Hooks, Opened, Options
from newswire.wire import Event


def subscribe(*topics: str, hub: str, token: str = "", options: Options | None = None) -> Iterator[Event | None]:
    """The updates of topics; None wherever the hub says that it had to leave some out."""
    lost: list[None] = []

    def opened(head: Opened) -> None:
        # If the hub can't find the id of the request, it sets the response's `Last-Event-ID` to another one.
        found = dict(head.headers).get("last-event-id")
        if found is not None and source.last_event_id and found != source.last_event_id:
            lost.append(None)

    options = replace(options or Options(), hooks=Hooks(open=opened))
    headers = {"authorization": f"Bearer {token}"} if token else None
    query = urlencode([("topic", topic) for topic in topics])
    with EventSource(f"{hub}?{query}", headers=headers, options=options) as source:
        for event in source:
            yield from lost
            lost.clear()
            yield event


if __name__ == "__main__":
    for update in subscribe(*sys.argv[2:], hub=sys.argv[1]):
        print(update.data if update else "(some updates are lost)", flush=True)
