"""Both faces behind one plain call, so that every test of a behaviour runs against both."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import pytest

from newswire.client import AsyncEventSource, EventSource, Hooks, Limits, Options, ReadyState, Stats
from newswire.errors import NewswireError
from newswire.testing import FakeClock, asgi_client
from newswire.wire.event import Event


@dataclass
class Outcome:
    """What a source gave until it ended, or until enough."""

    events: list[Event] = field(default_factory=list)
    error: NewswireError | None = None
    waits: list[float] = field(default_factory=list)
    stats: Stats = field(default_factory=Stats)
    last_event_id: str = ""
    states: list[ReadyState] = field(default_factory=list)
    ended: bool = False
    failures: list[NewswireError] = field(default_factory=list)

    @property
    def data(self) -> list[str]:
        return [event.data for event in self.events]


class Face:
    """`EventSource` or `AsyncEventSource`, read to the end or for some events, with waits that take no time."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, url: Any, *, stop_after: int | None = None, clock: FakeClock | None = None, **given: Any) -> Outcome:
        outcome, clock = Outcome(), clock or FakeClock()
        # Waits take no time here, so requests to a server that never sends anything would go on for ever.
        options: Options = given.pop("options", Options(limits=Limits(attempts=50)))
        hooks: Hooks = options.hooks
        if hooks.error is None:
            hooks = replace(hooks, error=lambda error, _: outcome.failures.append(error))
        given["options"] = replace(options, clock=clock, hooks=hooks)
        if self.name == "sync":
            self._sync(url, stop_after, outcome, given)
        else:
            asyncio.run(self._async(url, stop_after, outcome, given))
        outcome.waits = clock.waits
        return outcome

    def _sync(self, url: Any, stop_after: int | None, outcome: Outcome, given: dict[str, Any]) -> None:
        with EventSource(url, **given) as source:
            outcome.states.append(source.ready_state)
            try:
                for event in source:
                    outcome.events.append(event)
                    outcome.states.append(source.ready_state)
                    if len(outcome.events) == stop_after:
                        break
                else:
                    outcome.ended = True
            except NewswireError as error:
                outcome.error = error
            outcome.states.append(source.ready_state)
            outcome.last_event_id, outcome.stats = source.last_event_id, source.stats

    async def _async(self, url: Any, stop_after: int | None, outcome: Outcome, given: dict[str, Any]) -> None:
        async with AsyncEventSource(url, **given) as source:
            outcome.states.append(source.ready_state)
            try:
                async for event in source:
                    outcome.events.append(event)
                    outcome.states.append(source.ready_state)
                    if len(outcome.events) == stop_after:
                        break
                else:
                    outcome.ended = True
            except NewswireError as error:
                outcome.error = error
            outcome.states.append(source.ready_state)
            outcome.last_event_id, outcome.stats = source.last_event_id, source.stats

    def feed(self, pieces: list[bytes]) -> Outcome:
        """What the source makes of one stream in these pieces, after which the server says 204. No sockets."""
        client = _sync_client(pieces) if self.name == "sync" else asgi_client(_Pieces(pieces))
        return self.read("http://test/events", client=client)


class _Pieces:
    """An ASGI application: one stream in given pieces, then 204."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces: list[bytes] | None = pieces

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        pieces, self._pieces = self._pieces, None
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 204 if pieces is None else 200, "headers": head})
        for piece in pieces or ():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _sync_client(pieces: list[bytes]) -> httpx2.Client:
    answers = [iter(pieces), None]

    class Stream(httpx2.SyncByteStream):
        def __init__(self, parts: Any) -> None:
            self._parts = parts

        def __iter__(self) -> Any:
            return self._parts

    class Transport(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            parts = answers.pop(0)
            head = {"content-type": "text/event-stream"}
            return httpx2.Response(204 if parts is None else 200, headers=head, stream=Stream(parts or iter(())))

    return httpx2.Client(transport=Transport())


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    """Each of the two faces."""
    return Face(request.param)
