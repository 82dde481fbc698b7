"""Presence as a hub has it: which channels have members, the node of the open hub, and one channel's view of it."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from newswire.errors import Closed, LogUnavailable
from newswire.hub.iterator import EventIterator
from newswire.hub.latest import LatestRules
from newswire.hub.options import PresenceOptions, StreamOptions
from newswire.hub.presence import names
from newswire.hub.presence.member import Member, MemberChange, check_id, state_text
from newswire.hub.presence.node import Node
from newswire.hub.presence.roster import Changes
from newswire.log.channels import Channels
from newswire.log.engine import Condition
from newswire.log.log import Log
from newswire.log.position import Position
from newswire.wire.event import Event
from newswire.wire.reserved import GAP, LIVE, PRESENCE

_READY_SECONDS: Final = 10.0
_COUNT_SECONDS: Final = 1.0  # a number is for people: once a second is often enough, for thousands of readers
_SERVE: Final = ", or newswire serve --presence"


class Owner(Protocol):
    """A hub, as its presence sees it."""

    log: Log

    async def runtime(self) -> object: ...

    def before_close(self, call: Callable[[], Awaitable[None]]) -> None: ...

    def subscribe(self, *channels: str) -> Any: ...

    async def append(
        self, batch: Sequence[tuple[str, Event]], condition: Condition | None
    ) -> list[Position] | None: ...


class Presences:
    """The members of the channels of a hub.

    Args:
        hub: the hub.
        rules: which channels have members.
        options: how soon what happens.

    Attributes:
        options: see above.
        changes: who came and went.
        subscribers: how many streams of this process are its own.
    """

    def __init__(self, hub: Owner, rules: LatestRules, options: PresenceOptions) -> None:
        self.options = options
        self.changes: Changes = Changes()
        self._hub = hub
        self._rules = rules
        self._node: Node | None = None

    def __contains__(self, channel: str) -> bool:
        return channel in self._rules

    @property
    def subscribers(self) -> int:
        """How many open streams of this process are this one's own, and no reader's."""
        return 0 if self._node is None else 1

    def check(self, channel: str) -> str:
        """Return `channel` if it has members.

        Raises:
            InvalidChannel: it is no channel's name, or too long.
            ValueError: it is not among the channels that have members.
        """
        names.check(channel)
        if channel not in self._rules:
            raise ValueError(f"channel {channel[:100]!r} has no members here: name it in Hub(presence=[...]){_SERVE}")
        return channel

    def among(self, channels: Channels) -> list[str]:
        """The channels of a subscription that have members.

        Raises:
            ValueError: none has.
        """
        found = sorted(name for name in channels.names if name in self._rules)
        if not found:
            raise ValueError(
                f"presence is for channels that have members, each by its name: see Hub(presence=[...]){_SERVE}"
            )
        return [names.check(name) for name in found]

    def attend(self, channels: Sequence[str], member: Member | None) -> Attendance:
        """The presence of one stream, which is about to begin.

        Args:
            channels: which it is on.
            member: whose it is; None: it only watches. Its node still looks after the members of dead nodes.
        """
        if member is None:
            return Attendance(self, (), None, "null")
        return Attendance(self, channels, member.id, state_text(member.state, self.options.max_state))

    def node(self) -> Node:
        """The node of the hub, which is open in this event loop."""
        if self._node is None:
            self._node = node = Node(
                self._hub.log,
                self.options,
                append=self._hub.append,
                subscribe=lambda: aiter(self._hub.subscribe(names.ALL)),
                changes=self.changes,
            )
            self._hub.before_close(self._close)
            return node
        return self._node

    async def _close(self) -> None:
        node, self._node = self._node, None
        if node is not None:
            await node.close()

    def abandon(self) -> None:
        """The event loop is closed."""
        node, self._node = self._node, None
        if node is not None:
            node.abandon()

    async def opened(self) -> Node:
        """The node, when it knows all that the log has.

        Raises:
            LogUnavailable: the log can't be read now.
        """
        try:
            async with asyncio.timeout(_READY_SECONDS):
                return await self.in_time()
        except TimeoutError:
            raise LogUnavailable("the members of channels can't be read from the log now: try again") from None

    async def in_time(self) -> Node:
        """The same, however long the log is away.

        Raises:
            Closed: the hub is closed.
        """
        await self._hub.runtime()
        node = self.node()
        await node.ready.wait()
        return node

    def here(self) -> tuple[int, int]:
        """How many members, and how many visitors, have streams in this process, over all channels."""
        local = None if self._node is None else self._node.local
        return (0, 0) if local is None else (len(local.members()), local.visitors.total())


class Attendance:
    """The presence of one stream: its member is on these channels from `begin` to `end`."""

    __slots__ = ("_begun", "_channels", "_given", "_member", "_presences")

    def __init__(self, presences: Presences, channels: Sequence[str], member: str | None, given: str) -> None:
        self._presences = presences
        self._channels = channels
        self._member = member
        self._given = given
        self._begun: Node | None = None

    def begin(self) -> None:
        """The stream begins. The hub is open."""
        self._begun = node = self._presences.node()
        for channel in self._channels:
            node.enter(channel, self._member, self._given)

    def tighten(self, options: StreamOptions) -> StreamOptions:
        """A client that vanishes is noticed in half of the heartbeat, so that its grace time is over within it."""
        if not self._channels:
            return options
        most = self._presences.options.heartbeat / 4
        heartbeat, timeout = options.heartbeat or most, options.write_timeout or most
        return replace(options, heartbeat=min(heartbeat, most), write_timeout=min(timeout, most))

    def end(self) -> None:
        """It has ended. Idempotent."""
        node, self._begun = self._begun, None
        if node is not None:
            for channel in self._channels:
                node.local.leave(channel, self._member)


class Presence:
    """The members of one channel, over all processes with the same log. Made by `Hub.presence`.

    Iterate over it to get each change, first a `join` for each member who is there:

        async for change in hub.presence("room.1"):
            print(change.member, change.kind, change.state)

    Attributes:
        channel: its name.
    """

    def __init__(self, presences: Presences, channel: str, subscribe: Callable[..., Any]) -> None:
        self._presences = presences
        self.channel: str = presences.check(channel)
        self._subscribe = subscribe

    def __repr__(self) -> str:
        return f"<Presence on {self.channel!r}>"

    async def members(self) -> dict[str, Any]:
        """The members who are there now, with their states, in the order of their ids.

        Raises:
            LogUnavailable: the log can't be read.
        """
        return (await self._presences.opened()).roster.members(self.channel)

    async def count(self) -> int:
        """How many members and visitors are there now.

        Raises:
            LogUnavailable: the log can't be read.
        """
        return (await self._presences.opened()).roster.count(self.channel)

    def counts(self) -> AsyncIterator[int]:
        """How many members and visitors are there, now and after each change; without end, once a second at most.

        Cancelling loses nothing: call the iterator again.

        Raises:
            LogUnavailable: the log can't be read at the beginning. Later the number stays as it was meanwhile.
        """
        return _Counts(self._presences, self.channel)

    async def update(self, member: str, state: Any) -> None:
        """Change the state of a member, whichever node its stream is on. Readers get it within a tick.

        The newest state counts: of several in one tick, readers get the last.

        Args:
            member: its id.
            state: anything that JSON can say.

        Raises:
            LookupError: it is not there.
            InvalidEvent, LimitExceeded: JSON can't say it, or it is larger than `PresenceOptions.max_state`.
            LogUnavailable: the log can't be read.
        """
        text = state_text(state, self._presences.options.max_state)
        node = await self._presences.opened()
        await node.update((self.channel, check_id(member)), text)

    def __aiter__(self) -> AsyncIterator[MemberChange]:
        """Iterate over the changes, without end. What a slow reader misses it gets as the newest change of a member.

        Cancelling loses nothing: call the iterator again.
        """
        return _Changed(self._subscribe(names.members_of(self.channel)))


# Objects and no generators: whatever cancels one waiting of a generator ends it for good, in silence.


class _Counts(AsyncIterator[int]):
    """How many are there; see `Presence.counts`."""

    def __init__(self, presences: Presences, channel: str) -> None:
        self._presences = presences
        self._channel = channel
        self._count = -1
        self._at = 0.0  # when, by the event loop's clock
        self._begun = False
        self._over = False

    async def __anext__(self) -> int:
        clock = asyncio.get_running_loop().time
        while not self._over:
            try:
                node = await (self._presences.in_time() if self._begun else self._presences.opened())
            except Closed:
                if not self._begun:
                    raise
                self._over = True
                break
            self._begun = True
            changed = self._presences.changes.next(self._channel)
            count = node.roster.count(self._channel)
            rest = self._at + _COUNT_SECONDS - clock()
            if count == self._count:
                await changed.wait()
            elif self._count >= 0 and rest > 0:
                await asyncio.sleep(rest)
            else:
                self._count, self._at = count, clock()
                return count
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._over = True


class _Changed(AsyncIterator[MemberChange]):
    """The changes of one channel's members; see `Presence.__aiter__`."""

    def __init__(self, events: Any) -> None:
        self._events: EventIterator[Event] = aiter(events)
        self._here: set[str] = set()
        self._doubtful: set[str] = set()  # after a gap, until it is known who is still there
        self._found: deque[MemberChange] = deque()

    async def __anext__(self) -> MemberChange:
        while not self._found:
            self._take(await anext(self._events))
        return self._found.popleft()

    async def aclose(self) -> None:
        self._found.clear()
        await self._events.aclose()

    def _take(self, event: Event) -> None:
        if event.event == GAP:
            self._doubtful = set(self._here)
        elif event.event == LIVE:
            self._here -= self._doubtful
            self._found.extend(MemberChange(gone, "leave") for gone in sorted(self._doubtful))
            self._doubtful.clear()
        elif event.event == PRESENCE:
            found = json.loads(event.data)
            member: str = found["member"]
            self._doubtful.discard(member)
            known = member in self._here
            if found["change"] != "leave":
                self._here.add(member)
                self._found.append(MemberChange(member, "update" if known else "join", found["state"]))
            elif known:
                self._here.discard(member)
                self._found.append(MemberChange(member, "leave"))
