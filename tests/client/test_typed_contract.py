"""Both sources read with a contract."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.contract.shop import Price, events

from newswire import AsyncEventSource, EventSource
from newswire.client import Hooks, Options, decode_as
from newswire.contract import TypedEvent
from newswire.errors import BadPayload, EventsLost
from newswire.testing import Answer, BadServer, FakeClock
from newswire.wire.event import Event

STREAM = (
    b'id: e-1\nevent: price\nchannel: p\ndata: {"symbol": "A", "value": 1}\n\n'
    b"id: e-2\nevent: strange\ndata: 1\n\n"
    b'id: e-3\nevent: price\ndata: {"symbol": "A", "value": "x"}\n\n'
    b'id: e-3\nevent: newswire.gap\ndata: {"reason": "trimmed"}\n\n'
    b"id: e-4\nevent: done\ndata: null\n\n"
)
PRICE = TypedEvent("price", Price(symbol="A", value=1), "e-1", "p")
DONE = TypedEvent("done", None, "e-4", None)


def read(face: Any, options: Options | None = None, **more: Any) -> list[Any]:
    """All that a source gives, errors too."""
    options = replace(options or Options(), clock=FakeClock())
    got: list[Any] = []
    with BadServer([Answer(STREAM), Answer(status=204)]) as server:
        if face.name == "sync":
            with EventSource(server.url, options=options) as source:
                values = source.typed(events, **more)
                while True:
                    try:
                        got.append(next(values))
                    except StopIteration:
                        return got
                    except (BadPayload, EventsLost) as error:
                        got.append(type(error))

        async def main() -> list[Any]:
            async with AsyncEventSource(server.url, options=options) as source:
                values = source.typed(events, **more)
                while True:
                    try:
                        got.append(await anext(values))
                    except StopAsyncIteration:
                        return got
                    except (BadPayload, EventsLost) as error:
                        got.append(type(error))

        return asyncio.run(main())


def test_values_come_with_their_name_and_place_and_a_bad_one_is_raised(face: Any) -> None:
    """An event that the contract does not know is left out; the source goes on after a bad payload."""
    assert read(face) == [PRICE, BadPayload, DONE]


def test_whatever_is_not_known_may_be_raised_or_seen(face: Any) -> None:
    """`unknown` stands in for the contract's own."""
    assert read(face, unknown="raise") == [PRICE, BadPayload, BadPayload, EventsLost, DONE]
    seen: list[Event] = []
    bad: list[Any] = []
    options = Options(hooks=Hooks(bad_payload=bad.append))
    assert read(face, options, unknown=seen.append, on_bad="skip") == [PRICE, DONE]
    assert [event.event for event in seen] == ["strange", "newswire.gap"]
    assert [error.event.id for error in bad] == ["e-3"]


@pytest.mark.parametrize("make", [EventSource, AsyncEventSource])
def test_what_is_no_contract(make: Any) -> None:
    """It is refused by the call, and not when the first event comes; so is an `unknown` that there is not."""
    source = make("http://127.0.0.1:9/")
    for contract in (3, None, int, {"price": int}):
        with pytest.raises(TypeError, match="contract is an EventTypes, not "):
            source.typed(contract)
    with pytest.raises(ValueError, match="unknown is 'skip', 'raise' or a function, not 'ignore'"):
        source.typed(events, unknown="ignore")
    source.close()
    with pytest.raises(TypeError, match="event is an Event, not 'data'"):
        decode_as("data", int)  # type: ignore[arg-type]


def test_models_of_nothing() -> None:
    """They would leave out all events."""
    with EventSource("http://127.0.0.1:9/") as source, pytest.raises(ValueError, match="models is empty"):
        source.json({})


def test_on_bad_is_checked_at_once() -> None:
    """A typing mistake is no silent loss."""
    with EventSource("http://127.0.0.1:9/") as source, pytest.raises(ValueError, match="on_bad"):
        source.typed(events, on_bad="drop")  # type: ignore[arg-type]
