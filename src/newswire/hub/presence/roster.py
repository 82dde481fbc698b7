"""All members of all channels, as the log has them: what one process has read of the channels of presence. No I/O here.

What a process has stored itself is put in as soon as it is stored, and comes again when the log brings it. So each part
keeps its offset, and only what is newer counts.

`Changes` counts what changes by kind, for metrics, and wakes those who wait for it: one object a hub, for all nodes
that it has one after the other. A thousand readers of one channel's number wait for one `asyncio.Event`. It is held by
those who wait and by nothing else, so names of channels that somebody once asked for cost nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, TypeAlias
from weakref import WeakValueDictionary

from newswire.hub.presence.names import HELD, HERE, VISITORS, here, visitors
from newswire.wire.payload import write_json

logger: logging.Logger = logging.getLogger("newswire.hub")

Key: TypeAlias = tuple[str, str]
"""A channel and a member."""

_RENEW_SECONDS: Final = 3600.0  # a log may remove events by their age, whatever they say: members are noted again
_NOBODY: Final[tuple[str, ...]] = ()


@dataclass(slots=True)
class Membership:
    """A member on a channel.

    Attributes:
        held: the offset of the newest note of the nodes that have it; 0: none is known.
        nodes: those who have a stream of it.
        given: the state that its streams came with, as JSON.
        here: the offset of the newest event that readers get; 0: none is known.
        state: what this event says, as JSON; None: the member has left, or never came.
        seen: when this process read that event, by the monotonic clock.
    """

    held: int = 0
    nodes: tuple[str, ...] = _NOBODY
    given: str | None = None
    here: int = 0
    state: str | None = None
    seen: float = 0.0

    @property
    def is_old(self) -> bool:
        """Whether its member, who is here, has to be noted again."""
        return self.state is not None and self.seen < monotonic() - _RENEW_SECONDS


@dataclass(slots=True)
class Room:
    """All that is known of one channel.

    Attributes:
        places: by member; those that have left lately too.
        visitors: by node: how many, and the offset of the event that says so.
        count: how many members and visitors it has; None: to be counted.
    """

    places: dict[str, Membership] = field(default_factory=dict)
    visitors: dict[str, tuple[int, int]] = field(default_factory=dict)
    count: int | None = None


class Roster:
    """All members of all channels.

    Args:
        changed: called with a channel when who is on it, or how many, has changed.

    Attributes:
        rooms: by channel.
        held: the members that each node has.
        left: the members who have left and are remembered, and since when, by the monotonic clock; the earliest first.
        visited: on how many channels a node has visitors, by node.
    """

    def __init__(self, changed: Callable[[str], object] = lambda channel: None) -> None:
        self._changed = changed
        self.rooms: dict[str, Room] = {}
        self.held: dict[str, set[Key]] = {}
        self.left: dict[Key, float] = {}
        self.visited: Counter[str] = Counter()

    def removed(
        self, earliest: int, members: Iterable[Key], node: str, channels: Iterable[str]
    ) -> tuple[set[Key], set[str]]:
        """What a log that begins after an offset has not got any more.

        Args:
            earliest: that offset.
            members: those of a node; the lost ones are old from now on.
            node: the name of the node.
            channels: those that it has visitors on.

        Returns:
            the members whose events are lost, and the channels whose number of visitors is.
        """
        lost = {key for key in members if 0 < self.place(key).here <= earliest}
        for key in lost:
            self.place(key).seen = -math.inf
        rooms = ((channel, self.rooms.get(channel)) for channel in channels)
        visited = {name for name, room in rooms if room and 0 < room.visitors.get(node, (0, 0))[1] <= earliest}
        return lost, visited

    def place(self, key: Key) -> Membership:
        """What is known of a member; nothing, at first."""
        room = self.rooms.get(key[0])
        return (room and room.places.get(key[1])) or Membership()

    def room(self, channel: str) -> Room:
        """What is known of a channel; nothing, at first."""
        return self.rooms.get(channel) or Room()

    def take(self, channel: str, data: str, offset: int) -> Key | None:
        """Take note of an event. Returns whom it is about, unless it says nothing new of a member."""
        try:
            found = json.loads(data)
            of, member = str(found["channel"]), found.get("member")
            if channel.startswith(VISITORS):
                self.set_visitors(of, str(found["node"]), int(found["count"]), offset)
                return None
            key = of, str(member)
            place = self._room(of).places.setdefault(key[1], Membership())
            if channel.startswith(HELD) and offset > place.held:
                nodes = tuple(map(str, found["nodes"]))
                self._set_nodes(key, place, nodes)
                place.held, place.given = offset, write_json(found.get("given"))
            elif channel.startswith(HERE) and offset > place.here:
                place.here = offset
                before = place.state
                place.state = None if found["change"] == "leave" else write_json(found["state"])
                place.seen = monotonic()
                self.left.pop(key, None)
                if place.state is None:
                    self.left[key] = place.seen
                if (before is None) != (place.state is None):
                    self._count_again(of)
            else:
                return None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            logger.error("passed over: %s has no presence at offset %d: %r", channel, offset, error)
            return None
        return key

    def forget_held(self, key: Key, offset: int) -> None:
        """The log has no note of the nodes that have a member; the newest that it had was at an offset."""
        place = self._room(key[0]).places.setdefault(key[1], Membership())
        self._set_nodes(key, place, _NOBODY)
        place.held, place.given = offset, None

    def drop_unknown(self, key: Key) -> None:
        """Forget a member that is not in the log."""
        room = self.rooms.get(key[0])
        place = None if room is None else room.places.get(key[1])
        if room is not None and place is not None and place.held == place.here == 0:
            del room.places[key[1]]
            self._drop_empty(key[0])

    def forget(self, channels: Mapping[str, int]) -> None:
        """The log has removed the last events of channels, up to these offsets."""
        members = sum(channel.startswith(HERE) for channel in channels)
        for key in list(self.left):
            if members == 0:
                break  # those who left first are among the first here
            offset = channels.get(here(*key))
            if offset is None:
                continue
            members -= 1
            place = self.place(key)
            if not place.nodes and 0 < place.here <= offset:
                del self.left[key], self.rooms[key[0]].places[key[1]]
                self._drop_empty(key[0])
        for channel, node, offset in list(self.no_visitors()):
            if offset <= channels.get(visitors(channel, node), 0):
                self.drop_visitors(channel, node)

    def no_visitors(self) -> Iterator[tuple[str, str, int]]:
        """The channels and nodes with a note that there are no visitors, and the offsets of these notes."""
        for channel, room in self.rooms.items():
            for node, (count, offset) in room.visitors.items():
                if count == 0:
                    yield channel, node, offset

    def drop_visitors(self, channel: str, node: str) -> int:
        """Forget how many visitors a node has. Returns the offset of the event that said so."""
        count, offset = self.rooms[channel].visitors.pop(node)
        self._visit(node, -bool(count))
        if count:
            self._count_again(channel)
        self._drop_empty(channel)
        return offset

    def _visit(self, node: str, step: int) -> None:
        self.visited[node] += step
        if self.visited[node] == 0:
            del self.visited[node]

    def _drop_empty(self, channel: str) -> None:
        room = self.rooms[channel]
        if not room.places and not room.visitors:
            del self.rooms[channel]

    def _set_nodes(self, key: Key, place: Membership, nodes: tuple[str, ...]) -> None:
        for node in place.nodes:
            self.held[node].discard(key)
            if not self.held[node]:
                del self.held[node]
        place.nodes = nodes
        for node in nodes:
            self.held.setdefault(node, set()).add(key)

    def set_visitors(self, channel: str, node: str, count: int, offset: int) -> None:
        """Take note of how many visitors a node has."""
        counts = self._room(channel).visitors
        before, known = counts.get(node, (0, 0))
        if offset > known:
            counts[node] = count, offset
            self._visit(node, bool(count) - bool(before))
            if count != before:
                self._count_again(channel)

    def _count_again(self, channel: str) -> None:
        self._room(channel).count = None
        self._changed(channel)

    def _room(self, channel: str) -> Room:
        room = self.rooms.get(channel)
        if room is None:
            room = self.rooms[channel] = Room()
        return room

    def members(self, channel: str) -> dict[str, Any]:
        """The members of a channel and their states, in the order of the alphabet."""
        places = self.room(channel).places
        return {member: json.loads(place.state) for member, place in sorted(places.items()) if place.state is not None}

    def count(self, channel: str) -> int:
        """How many members and visitors a channel has."""
        room = self.room(channel)
        if room.count is None:
            members = sum(place.state is not None for place in room.places.values())
            room.count = members + sum(count for count, _ in room.visitors.values())
        return room.count


def change_of(
    place: Membership, nodes: Set[str], came: str | None, update: str | None, given: str
) -> tuple[str | None, str | None]:
    """What readers get when other nodes have a member, or it has another state.

    Args:
        place: what they have got so far.
        nodes: the nodes that have it now.
        came: the state that a stream came with since, if one has.
        update: the state that it was given since, if it was.
        given: the state that its streams came with.

    Returns:
        the change, and the state that it says; None: nothing.
    """
    if not nodes:
        return (None, None) if place.state is None else ("leave", None)
    if place.state is None:
        return "join", update or given
    state = update or (came if came != place.given else None)  # a reconnect brings the state that it came with
    return (None, None) if state is None or state == place.state else ("update", state)


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
