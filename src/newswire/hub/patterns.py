"""The index that leads from a channel to the groups that subscribe to it.

Names are looked up; patterns are resolved when a channel is first seen and remembered, so that a private event among
5,000 subscribers costs its one reader only. The hub asks it once for each event.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from newswire.hub.group import Group

# Channels whose answer is remembered. Past this the memory starts anew: it is a cache, and channels come and go.
_REMEMBERED: Final = 100_000


class ChannelIndex:
    """Which groups want a channel's events."""

    def __init__(self) -> None:
        self._named: dict[str, dict[Group, None]] = {}
        self._patterned: dict[Group, None] = {}
        self._resolved: dict[str, list[Group]] = {}

    def add(self, group: Group) -> None:
        """Take in a group."""
        for name in group.channels.names:
            self._named.setdefault(name, {})[group] = None
            self._resolved.pop(name, None)
        if group.channels.patterns:
            self._patterned[group] = None
            self._resolved.clear()

    def remove(self, group: Group) -> None:
        """Let a group go."""
        for name in group.channels.names:
            groups = self._named[name]
            del groups[group]
            if not groups:
                del self._named[name]
            self._resolved.pop(name, None)
        if group.channels.patterns:
            del self._patterned[group]
            self._resolved.clear()

    def groups(self, channel: str) -> list[Group]:
        """The groups that want this channel's events. Don't change the list."""
        groups = self._resolved.get(channel)
        if groups is None:
            groups = list(self._named.get(channel, ()))
            groups += [
                group for group in self._patterned if channel not in group.channels.names and channel in group.channels
            ]
            if len(self._resolved) >= _REMEMBERED:
                self._resolved.clear()
            self._resolved[channel] = groups
        return groups

    def subscribed(self, limit: int | None = None) -> dict[str, int]:
        """The names and patterns that are subscribed to (at most `limit` of each), with their subscribers."""
        found = {name: sum(group.size for group in groups) for name, groups in islice(self._named.items(), limit)}
        for group in islice(self._patterned, limit):
            for pattern in group.channels.patterns:
                found[pattern] = found.get(pattern, 0) + group.size
        return found
