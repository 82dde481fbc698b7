"""Waiting for events in tests: with a limit, so that a stream that stays silent is a failure and not a hang."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from newswire.wire.event import Event

T = TypeVar("T")


async def next_event(events: AsyncIterator[T], *, timeout: float = 5.0) -> T:
    """The next event of a source, a subscription, or any async iterator.

    Args:
        events: the iterator itself (call `aiter` on a subscription once).
        timeout: seconds.

    Raises:
        AssertionError: none came in time, or the stream ended.
    """
    try:
        async with asyncio.timeout(timeout):
            return await anext(events)
    except TimeoutError:
        raise AssertionError(f"no event within {timeout:g} seconds") from None
    except StopAsyncIteration:
        raise AssertionError("the stream ended") from None


async def until(
    events: AsyncIterator[Event], wanted: str | Callable[[Event], bool], *, timeout: float = 5.0
) -> list[Event]:
    """The events up to and including the first that is wanted.

    Args:
        events: the iterator itself.
        wanted: an event's type, or a function that knows the event.
        timeout: seconds, for all of them.

    Raises:
        AssertionError: it didn't come; the message has what came instead.
    """
    found: list[Event] = []
    try:
        async with asyncio.timeout(timeout):
            async for event in events:
                found.append(event)
                if event.event == wanted if isinstance(wanted, str) else wanted(event):
                    return found
    except TimeoutError:
        raise AssertionError(f"not within {timeout:g} seconds; these came: {found}") from None
    raise AssertionError(f"the stream ended; these came: {found}")
