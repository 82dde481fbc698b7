"""What changes among the members of channels: counted by kind for metrics, and told to those who wait for it.

One object a hub, for all nodes that it has one after the other. A thousand readers of one channel's number wait for one
`asyncio.Event`. It is held by those who wait and by nothing else, so names of channels that somebody once asked for
cost nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final
from weakref import WeakValueDictionary

KINDS: Final = ("join", "update", "leave", "expire")


class Changes:
    """The changes of one process.

    Attributes:
        counts: those that this process has stored: `join`, `update`, `leave`, and `expire`, a leave because the node
            that had the member is dead.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._next: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def next(self, channel: str) -> asyncio.Event:
        """An event that is set when a channel's members change next. Ask before you look, so that none is missed."""
        event = self._next.get(channel)
        if event is None:
            event = self._next[channel] = asyncio.Event()
        return event

    def happened(self, channel: str) -> None:
        """The members of a channel, or their number, have changed."""
        event = self._next.pop(channel, None)
        if event is not None:
            event.set()

    def anything(self) -> None:
        """Everything may have changed: the log was read again, or the node has ended."""
        for channel in list(self._next):
            self.happened(channel)
