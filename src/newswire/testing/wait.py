"""Waiting for events in tests, with a limit: a silent stream makes the test fail and not hang.

Tests call these functions with a source, a subscription or any other async iterator. They never close it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from newswire.counted import counted
from newswire.wire.event import Event

T = TypeVar("T")


async def next_event(events: AsyncIterator[T], *, timeout: float = 5.0) -> T:
    """Returns the next event of a source, a subscription, or any other async iterator.

    Args:
        events: the iterator itself (call `aiter` on a subscription once).
        timeout: seconds to wait.

    Raises:
        AssertionError: no event came in time, or the stream ended.
    """
    try:
        async with asyncio.timeout(timeout):
            return await anext(events)
    except TimeoutError:
        raise AssertionError(f"no event within {counted(timeout, 'second')}") from None
    except StopAsyncIteration:
        raise AssertionError("the stream ended") from None


async def until(
    events: AsyncIterator[Event], wanted: str | Callable[[Event], bool], *, timeout: float = 5.0
) -> list[Event]:
    """Returns the events up to and including the first wanted one.

    Args:
        events: the iterator itself.
        wanted: the event's type, or a function that returns True for the event.
        timeout: seconds to wait for all of them.

    Raises:
        AssertionError: the event didn't come. The message lists the events that came.
    """
    found: list[Event] = []
    try:
        async with asyncio.timeout(timeout):
            async for event in events:
                found.append(event)
                if event.event == wanted if isinstance(wanted, str) else wanted(event):
                    return found
    except TimeoutError:
        raise AssertionError(f"not within {counted(timeout, 'second')}; these came: {found}") from None
    raise AssertionError(f"the stream ended; these came: {found}")
