"""The members and visitors with streams in this process. Nothing of the log is here: `node` stores what changes.

A member is here from its first stream on, and until the grace time after its last one is over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Set

from newswire.hub.presence.roster import Key


class LocalMembers:
    """The members that the streams of this process make present.

    Args:
        grace: see `PresenceOptions`.
        changed: called with a member that has come, come again or left.
        counted: called with a channel that has more or fewer visitors than before.

    Attributes:
        streams: of each member that has any.
        visitors: of each channel.
        given: the state that the newest stream of each member came with.
        came: the states that streams came with and that are to be stored.
    """

    def __init__(self, grace: float, changed: Callable[[Key], object], counted: Callable[[str], object]) -> None:
        self._grace = grace
        self._changed = changed
        self._counted = counted
        self._loop = asyncio.get_running_loop()
        self.streams: Counter[Key] = Counter()
        self.visitors: Counter[str] = Counter()
        self.given: dict[Key, str] = {}
        self.came: dict[Key, str] = {}
        self._leaving: dict[Key, asyncio.TimerHandle] = {}  # within the grace time

    def __contains__(self, key: Key) -> bool:
        """Whether a member is here."""
        return key in self.streams or key in self._leaving

    def __bool__(self) -> bool:
        """Whether anybody is here."""
        return bool(self.streams or self._leaving or self.visitors)

    def members(self) -> Set[Key]:
        """All who are here."""
        return self.streams.keys() | self._leaving.keys()

    def enter(self, channel: str, member: str | None, given: str) -> None:
        """A stream has begun.

        Args:
            channel: which it is on.
            member: whose it is; None: a visitor's.
            given: the member's state, as JSON.
        """
        if member is None:
            self._count(channel, +1)
            return
        key = channel, member
        self.streams[key] += 1
        timer = self._leaving.pop(key, None)
        if timer is not None:
            timer.cancel()
        self.given[key] = self.came[key] = given
        self._changed(key)

    def leave(self, channel: str, member: str | None) -> None:
        """A stream has ended."""
        if member is None:
            self._loop.call_later(self._grace, self._count, channel, -1)
            return
        key = channel, member
        self.streams[key] -= 1
        if self.streams[key] <= 0:
            del self.streams[key]
            self._leaving[key] = self._loop.call_later(self._grace, self._has_left, key)

    def cancel(self) -> None:
        """Wait for no grace time any more."""
        for timer in self._leaving.values():
            timer.cancel()

    def _has_left(self, key: Key) -> None:
        del self._leaving[key]
        self.given.pop(key, None)
        self.came.pop(key, None)
        self._changed(key)

    def _count(self, channel: str, step: int) -> None:
        self.visitors[channel] += step
        self._counted(channel)
