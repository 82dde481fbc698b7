"""A node: this process's part in who is where. It notes its own members in the log, and judges other nodes.

For each member the log has a note of the nodes that have a stream of it. A node changes the note under the condition
that it has not changed meanwhile, and in the same batch stores what readers get: only if that changes. So a second
tab, or a reconnect to another node, changes the note and nothing else; and whoever takes the last node away stores the
`leave`, once. What a dead node held is taken away by the others. `newswire.hub.leases` says which nodes are dead.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping
from contextlib import suppress
from secrets import token_hex
from typing import Any, Final

from newswire.errors import Closed, LogCorrupt, LogUnavailable
from newswire.hub.latest import FORGOTTEN, read_forgotten
from newswire.hub.leases import Leases
from newswire.hub.options import PresenceOptions
from newswire.hub.presence import names
from newswire.hub.presence.cleaner import Append, Cleaner, Subscribe
from newswire.hub.presence.local import LocalMembers
from newswire.hub.presence.roster import (
    Changes,
    Key,
    Membership,
    Roster,
    change_of,
)
from newswire.log.engine import Condition, Entry
from newswire.log.log import Log
from newswire.log.position import Position
from newswire.log.retry import repeating
from newswire.wire.event import Event
from newswire.wire.reserved import GAP, LIVE, PRESENCE

logger: logging.Logger = logging.getLogger("newswire.hub")

_TRIES: Final = 100  # others that are faster; each of them has changed the note
_AT_ONCE: Final = 500  # changes that are stored together
_LAST_HEARTBEAT_SECONDS: Final = 1.0  # that closing waits for it; without it the lease says the same, later
_SPREAD_SECONDS: Final = 0.2  # not all nodes take away what a dead one held in the same moment


class Node:
    """This process, as others know it.

    Args:
        log: the hub's.
        options: how soon what happens.
        append: stores a batch, perhaps under a condition.
        subscribe: gives the newest event of each channel of presence, then `newswire.live`, then all that follow.
        changes: counts them, and wakes those who wait for one.

    Attributes:
        name: how others know it.
        local: the members and visitors of this process.
        roster: who is where.
        ready: set while the roster has all that the log has.
    """

    def __init__(
        self, log: Log, options: PresenceOptions, *, append: Append, subscribe: Subscribe, changes: Changes
    ) -> None:
        self.name: str = token_hex(6)
        self.roster: Roster = Roster(changes.happened)
        self._changes = changes
        self.ready: asyncio.Event = asyncio.Event()
        self._log = log
        self._options = options
        self._append = append
        self._subscribe = subscribe
        self._leases = Leases(log, names.NODES, self.name, options.heartbeat, taken=self._heard)
        self._loop = asyncio.get_running_loop()
        self.local: LocalMembers = LocalMembers(options.grace, self._mark, self._mark_visitors)
        # What is to be stored.
        self._dirty: set[Key] = set()
        self._dirty_visitors: set[str] = set()
        self._updates: dict[Key, str] = {}  # the states that members were given since
        self._news = asyncio.Event()
        # Nodes that are gone: what they noted up to an offset does not count.
        self._gone: dict[str, int] = {}
        self._epoch = ""  # the log's
        self._cleaner = Cleaner(log, append, options.forget_after)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._heartbeat_now = asyncio.Event()  # others suspect that this node is dead, or it has its first member
        lease = options.heartbeat
        self._tasks = [
            repeating(self._follow, "presence can't be followed", logger),
            repeating(self._flush, "who is here can't be stored", logger, longest=min(1.0, lease / 4)),
            repeating(self._repeat_heartbeat, "this node's heartbeats can't be stored", logger, longest=lease / 8),
            repeating(self._forget, "members who left long ago can't be forgotten", logger),
            repeating(self._judge, "members of dead nodes can't be taken away", logger, longest=lease / 8),
        ]

    async def close(self) -> None:
        """Stop. The last heartbeat says that this node is gone: its members leave after the grace time."""
        await asyncio.gather(*(task.close() for task in self._tasks))
        self._cancel_timers()
        self._changes.anything()
        if self._leases.own:
            try:
                async with asyncio.timeout(_LAST_HEARTBEAT_SECONDS):
                    await self._leases.renew(gone=True, closed=True)
            except Exception as error:  # the last thing of a node that ends: whatever its log raises
                logger.debug("no last heartbeat: %r", error)

    def abandon(self) -> None:
        """The event loop is closed."""
        for task in self._tasks:
            task.abandon()

    def _cancel_timers(self) -> None:
        self.local.cancel()
        for timer in self._timers.values():
            timer.cancel()

    # -- who is here

    def enter(self, channel: str, member: str | None, given: str) -> None:
        """A stream has begun; see `LocalMembers.enter`."""
        if member is not None and not self._leases.own:
            self._heartbeat_now.set()  # the first one: from now on its death matters
        self.local.enter(channel, member, given)

    async def update(self, key: Key, state: str) -> None:
        """Change a member's state; whichever node has it.

        Raises:
            LookupError: it is not here.
        """
        await self.ready.wait()
        if key not in self.local and not self.roster.place(key).nodes:
            await self._read(key)  # it may have come to another node just now
            if not self.roster.place(key).nodes:
                self.roster.drop_unknown(key)
                raise LookupError(f"{key[1]!r} is not on {key[0]!r} now: it has no stream there")
        self._updates[key] = state
        self._mark(key)

    def _mark(self, key: Key) -> None:
        self._dirty.add(key)
        self._news.set()

    def _mark_visitors(self, channel: str) -> None:
        self._dirty_visitors.add(channel)
        self._news.set()

    # -- what is stored

    async def _flush(self) -> None:
        await self.ready.wait()
        await self._news.wait()
        self._news.clear()
        dirty = [self._dirty.pop() for _ in range(min(len(self._dirty), _AT_ONCE))]
        channels = [self._dirty_visitors.pop() for _ in range(min(len(self._dirty_visitors), _AT_ONCE))]
        if self._dirty or self._dirty_visitors:
            self._news.set()
        outcomes = await asyncio.gather(
            *(self._settle(key) for key in dirty), self._settle_visitors(channels), return_exceptions=True
        )
        *failures, visitors_failure = outcomes
        self._dirty.update(key for key, failure in zip(dirty, failures, strict=True) if failure is not None)
        if visitors_failure is not None:
            self._dirty_visitors.update(channels)
        for failure in outcomes:
            if failure is not None:
                self._news.set()
                raise failure
        await asyncio.sleep(self._options.tick)

    async def _settle(self, key: Key) -> None:
        """Store what has changed of a member, unless others have done so."""
        held, here = names.held(*key), names.here(*key)
        for _ in range(_TRIES):
            came, update = self.local.came.get(key), self._updates.get(key)
            place = self.roster.place(key)
            nodes, fresh = self._nodes(key, place)
            given = came or place.given or self.local.given.get(key) or "null"
            change, state = change_of(place, nodes, came, update, given)
            expires = any(self._gone.get(node, 0) > place.held for node in place.nodes)
            batch = []
            if change is None and key in self.local and place.is_old:
                fresh, change, state = False, "update", place.state
            if not fresh or (nodes and given != place.given):
                batch.append((held, Event(names.note_held(key, nodes, given), "held")))
            if change is not None:
                batch.append((here, Event(names.note_here(key, change, state), PRESENCE)))
            if batch:
                stored = await self._append(batch, Condition(held, place.held))
                if stored is None:
                    await self._read(key)
                    continue
                for (channel, event), position in zip(batch, stored, strict=True):
                    self.roster.take(channel, event.data, position.offset)
                    self._cleaner.stored(channel, position.offset)
                if change is not None:
                    self._changes.counts["expire" if change == "leave" and expires else change] += 1
            for done, what in ((self.local.came, came), (self._updates, update)):
                if done.get(key) is what:
                    done.pop(key, None)
            return
        raise LogUnavailable(f"others change the presence of {key[1]!r} all the time: trying again")

    def _nodes(self, key: Key, place: Membership) -> tuple[set[str], bool]:
        """The nodes that have a member now, and whether the log's note says so."""
        alive = {node for node in place.nodes if self._gone.get(node, 0) <= place.held}
        nodes = alive | {self.name} if key in self.local else alive - {self.name}
        return nodes, nodes == alive == set(place.nodes)

    async def _settle_visitors(self, channels: Iterable[str]) -> None:
        counts = [(channel, self.local.visitors[channel]) for channel in channels]
        if not counts:
            return
        notes = [
            (names.visitors(channel, self.name), Event(names.note_visitors(channel, self.name, count), "visitors"))
            for channel, count in counts
        ]
        stored = await self._append(notes, None)
        for (channel, count), position in zip(counts, stored or (), strict=True):
            self.roster.set_visitors(channel, self.name, count, position.offset)
            self._cleaner.stored(names.visitors(channel, self.name), position.offset)
            if count == 0 and self.local.visitors[channel] == 0:
                del self.local.visitors[channel]

    async def _read(self, key: Key) -> None:
        """Read what the log has of a member now."""
        held, here = names.held(*key), names.here(*key)
        entries = await self._log.newest([held, here])
        if entries[0] is None:
            # A condition on a channel that was dropped is 0; where retention has removed its events, the newest lost.
            lost = await self._log.lost(held) if self.roster.place(key).held == 0 else 0
            self.roster.forget_held(key, lost)
        for entry in entries:
            if entry is not None:
                self.roster.take(entry.channel, entry.data, entry.offset)

    # -- what is in the log

    async def _follow(self) -> None:
        self.ready.clear()
        self.roster = Roster(self._changes.happened)
        async for event in self._subscribe():
            if event.event == GAP:
                raise LogUnavailable("the log is another one, or some of presence was removed: it is read again")
            if Position.parse(event.id or "").epoch != self._epoch:
                self._begin_again(Position.parse(event.id or "").epoch)
            if event.event == LIVE:
                self._whole()
                continue
            offset, channel = Position.parse(event.id or "").offset, event.channel or ""
            if channel.startswith(names.NODES):
                try:
                    self._leases.take(Entry(offset, channel, event.event, event.data, 0.0))
                except LogCorrupt as error:
                    logger.error("passed over: %s", error)
            elif channel == FORGOTTEN:
                self._forgotten(event.data, offset)
            else:
                self.roster.take(channel, event.data, offset)
        raise Closed("the hub is closed")

    def _begin_again(self, epoch: str) -> None:
        """The log is another one than before: the offsets that were noted mean nothing in it."""
        self._epoch = epoch
        self._gone.clear()
        self._cleaner.begin_again()
        for name in list(self._timers):
            self._timers.pop(name).cancel()

    def _forgotten(self, data: str, offset: int) -> None:
        """The log has removed the events of members and nodes that are gone."""
        if not self._cleaner.take(data, offset) and self.ready.is_set():
            return  # this node has stored it
        channels = read_forgotten(data)[0]
        self.roster.forget(channels)
        for name, offset_gone in list(self._gone.items()):
            if offset_gone <= channels.get(names.NODES + name, 0):
                del self._gone[name]

    def _whole(self) -> None:
        """The roster has all that the log has. What this node has, the log must have too."""
        if not self.ready.is_set():
            self.ready.set()
            self._changes.anything()
            for name, offset in list(self._gone.items()):
                self._take_away(name, offset)
            self._mark_all()

    def _mark_all(self) -> None:
        self._dirty |= self.local.members()
        self._dirty_visitors.update(self.local.visitors)
        self._news.set()

    # -- who is alive

    def _heard(self, entry: Entry, name: str, data: Mapping[str, Any]) -> None:
        """A heartbeat, a suspicion or a verdict was read."""
        gone = bool(data.get("gone"))
        if name == self.name:
            if data.get("suspected") and entry.offset > self._leases.own:
                self._heartbeat_now.set()
            if gone and entry.offset > self._gone.get(name, 0):
                self._gone[name] = entry.offset
                self._mark_all()
        elif gone and entry.offset > self._gone.get(name, 0) and name not in self._timers:
            grace = self._options.grace
            wait = grace if data.get("closed") else max(0.0, grace - self._options.heartbeat / 2)
            self._timers[name] = self._loop.call_later(
                wait + random.uniform(0, _SPREAD_SECONDS), self._take_away, name, entry.offset
            )

    def _take_away(self, name: str, offset: int) -> None:
        """A node is gone: what it noted before an offset does not count any more."""
        self._timers.pop(name, None)
        self._gone[name] = offset
        self._dirty |= self.roster.held.get(name, set())
        for channel, room in list(self.roster.rooms.items()) if name in self.roster.visited else ():
            if name in room.visitors and room.visitors[name][1] < offset:
                self._cleaner.visitors[names.visitors(channel, name)] = self.roster.drop_visitors(channel, name)
        self._news.set()

    async def _judge(self) -> None:
        await self.ready.wait()
        await asyncio.sleep(min(max(self._options.heartbeat / 16, 0.02), 0.5))
        others = {*self.roster.held, *self.roster.visited} - {self.name, *self._timers}
        for name in await self._leases.judge(others):
            logger.info("node %s has given no heartbeat for too long: its members leave", name)

    async def _forget(self) -> None:
        await self.ready.wait()
        await asyncio.sleep(self._cleaner.pause)
        await self._cleaner.remove_replaced()
        while forgotten := await self._cleaner.step(self.roster, self._gone):
            self._forgotten(*forgotten)
        for key in self.local.streams:
            if self.roster.place(key).is_old:
                self._mark(key)

    async def _note_again(self) -> None:
        """Mark what a log that is full has removed, whatever it was: nodes that come later would not know of it."""
        span = await self._log.span()
        if span.epoch == self._epoch and self.ready.is_set():
            members, visited = self.roster.removed(span.earliest, self.local.streams, self.name, self.local.visitors)
            self._dirty |= members
            self._dirty_visitors |= visited
            self._news.set()

    async def _repeat_heartbeat(self) -> None:
        doubted = self._heartbeat_now.is_set()
        self._heartbeat_now.clear()
        if doubted or self.local:
            await self._leases.renew()
            self._cleaner.stored(names.NODES + self.name, self._leases.own)
            await self._note_again()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.heartbeat / 4):
                await self._heartbeat_now.wait()
