"""Forgets members who left long ago, so that neither the log nor a snapshot grows with everybody who was ever there.

The last event of such a member says that it has left. It is removed from the log; before that, an event of `FORGOTTEN`
says so to all hubs, and up to where readers may have missed something. One node does it: the event is stored under the
condition that no other node has stored one since. Nodes that are gone, and their visitors, are removed with them.

It also removes what a newer event has replaced. A log with a retention by pattern does so by itself; NATS, an edge, and
a log that an application made don't, and heartbeats and cursors that move would fill them.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import chain, islice
from time import monotonic
from typing import Final, TypeAlias

from newswire.hub.latest import FORGOTTEN, read_forgotten
from newswire.hub.presence import names
from newswire.hub.presence.roster import Roster
from newswire.log.engine import Condition
from newswire.log.log import Log
from newswire.log.position import Position
from newswire.wire.event import Event

Append: TypeAlias = Callable[[Sequence[tuple[str, Event]], Condition | None], Awaitable[list[Position] | None]]
Subscribe: TypeAlias = Callable[[], AsyncIterator[Event]]

_AT_ONCE: Final = 200  # members or channels; they fit an event, and a removal that is short


class Cleaner:
    """What one node removes.

    Args:
        log: the hub's.
        append: stores a batch, perhaps under a condition.
        forget_after: see `PresenceOptions`.

    Attributes:
        visitors: channels that say how many visitors a node had that is gone, and the offsets of their last events.
    """

    def __init__(self, log: Log, append: Append, forget_after: float) -> None:
        self._log = log
        self._append = append
        self._forget_after = forget_after
        self._marked = 0  # the offset of the newest event of `FORGOTTEN` …
        self._upto = 0  # … and up to where members were forgotten, by it
        self._replaced: dict[str, int] = {}  # channels, and the offsets of the newest events that this node has stored
        self._nodes: dict[str, float] = {}  # nodes that are gone, and since when
        self.visitors: dict[str, int] = {}

    @property
    def pause(self) -> float:
        """Seconds until the next step."""
        return random.uniform(0.05, 0.15) * self._forget_after

    def begin_again(self) -> None:
        """The log is another one."""
        self._marked = self._upto = 0
        self._replaced.clear()
        self._nodes.clear()
        self.visitors.clear()

    def take(self, data: str, offset: int) -> bool:
        """An event of `FORGOTTEN` was read or stored. Returns whether it is new here."""
        if offset <= self._marked:
            return False
        self._marked, self._upto = offset, max(self._upto, read_forgotten(data)[1])
        return True

    def stored(self, channel: str, offset: int) -> None:
        """This node has stored an event: older ones of its channel are of no use."""
        self._replaced[channel] = offset

    async def remove_replaced(self) -> None:
        """Remove what newer events of this node have replaced, on a log that does not do so by itself."""
        replaced = list(self._replaced.items())
        for start in range(0, len(replaced), _AT_ONCE):
            some = dict(replaced[start : start + _AT_ONCE])
            await self._log.drop({channel: offset - 1 for channel, offset in some.items()})
            for channel, offset in some.items():
                if self._replaced.get(channel) == offset:
                    del self._replaced[channel]

    async def step(self, roster: Roster, gone: Mapping[str, int]) -> tuple[str, int] | None:
        """Remove what is due, or a part of it if that is much.

        Args:
            roster: all members.
            gone: the nodes that are gone, and the offsets of the events that say so.

        Returns:
            the event of `FORGOTTEN` that says what is removed, and its offset; None: there is no more to do now.
        """
        due = monotonic() - self._forget_after
        cuts: dict[str, int] = {}
        upto = self._upto
        for key in list(islice(roster.left, _AT_ONCE)):
            place = roster.place(key)
            if roster.left[key] < due and not place.nodes:
                cuts[names.here(*key)], cuts[names.held(*key)] = place.here, place.held
                upto = max(upto, place.here)
        visitors = ((names.visitors(channel, node), offset) for channel, node, offset in roster.no_visitors())
        of_nodes = self._of_nodes(roster, gone, due)
        cuts |= islice(chain(of_nodes.items(), self.visitors.items(), visitors), _AT_ONCE)
        if not cuts:
            return None
        data = json.dumps({"channels": cuts, "upto": upto})
        stored = await self._append([(FORGOTTEN, Event(data, "forgotten"))], Condition(FORGOTTEN, self._marked))
        if stored is None:
            return None
        self.stored(FORGOTTEN, stored[0].offset)
        for channel in cuts:
            self.visitors.pop(channel, None)
        await self._log.drop({channel: offset for channel, offset in cuts.items() if offset})
        return data, stored[0].offset

    def _of_nodes(self, roster: Roster, gone: Mapping[str, int], due: float) -> dict[str, int]:
        """The channels of nodes that are gone for good."""
        now = monotonic()
        self._nodes = {name: self._nodes.get(name, now) for name in gone if name not in roster.held}
        return {names.NODES + name: gone[name] for name, since in self._nodes.items() if since < due}
