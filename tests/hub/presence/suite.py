"""`PresenceSuite`: who is on a channel is known on any log that can append under a condition, over all nodes.

A new engine passes it by a class with a fixture `make_log`. Two hubs on one storage stand for two nodes.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from newswire import Event, Hub, HubOptions, Member, PresenceOptions
from newswire.hub.iterator import EventIterator
from newswire.hub.presence import presences
from newswire.hub.presence.node import Node
from newswire.log.channels import Channels, Pattern
from newswire.log.log import Log
from newswire.testing import next_event
from newswire.testing.log_base import PATIENCE, LogTests, MakeLog

ROOM = "room.1"
STATE = {"name": "Ada ☺", "b": [1.5e3, True, None], "a": {}}
OPTIONS = HubOptions(presence=PresenceOptions(heartbeat=0.8, grace=0.3, tick=0.02))


class Stream:
    """An open stream of a member, which is read as events come, and the members that its events show."""

    def __init__(self, hub: Hub, member: Member | bool, after: str | None = None) -> None:
        self.hub = hub
        self.events: list[Event] = []
        self.here: dict[str, Any] = {}
        self._seen = 0  # of `events`, by the test
        self._news = asyncio.Event()
        self._reader: EventIterator[Event] = aiter(hub.subscribe(ROOM, presence=member, after=after))
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self._reader:
            self.events.append(event)
            self._news.set()

    async def next(self) -> Event:
        """The next event."""
        with anyio.fail_after(PATIENCE):
            while self._seen == len(self.events):
                self._news.clear()
                await self._news.wait()
        event = self.events[self._seen]
        self._seen += 1
        if event.event == "newswire.presence":
            found = json.loads(event.data)
            if found["change"] == "leave":
                self.here.pop(found["member"], None)
            else:
                self.here[found["member"]] = found["state"]
        return event

    async def until(self, *members: str) -> list[tuple[str, str]]:
        """Read until just these are there. Returns the changes that came."""
        return await self.until_states(dict.fromkeys(members, ...))

    async def until_states(self, states: dict[str, Any]) -> list[tuple[str, str]]:
        """Read until just these are there, with these states; ... stands for any."""
        begin = self._seen
        while not (
            self.here.keys() == states.keys()
            and all(state in (..., self.here[member]) for member, state in states.items())
        ):
            await self.next()
        return changes(self.events[begin : self._seen])

    async def close(self) -> None:
        """The client goes away."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._reader.aclose()


def changes(events: list[Event]) -> list[tuple[str, str]]:
    """The members and changes of events."""
    found = [json.loads(event.data) for event in events if event.event == "newswire.presence"]
    return [(change["member"], change["change"]) for change in found]


def node_of(hub: Hub) -> Node:
    """The node of a hub."""
    assert hub.presences is not None
    return hub.presences.node()


async def kill(hub: Hub) -> None:
    """Stop all that a node does, without a word to anybody, as kill -9 does."""
    node = node_of(hub)
    await asyncio.gather(*(task.close() for task in node._tasks))
    node._cancel_timers()
    node._leases.own = 0


async def until_count(hub: Hub, count: int) -> None:
    """Wait until so many are there."""
    with anyio.fail_after(PATIENCE):
        while await hub.presence(ROOM).count() != count:
            await asyncio.sleep(0.02)


class PresenceSuite(LogTests):
    """Subclass it, with a fixture `make_log`; see the module."""

    @pytest.fixture(autouse=True)
    def numbers_come_soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Readers hear how many are there more often than once a second."""
        monkeypatch.setattr(presences, "_COUNT_SECONDS", 0.1)

    @pytest.fixture
    async def pair(self, make_log: MakeLog) -> AsyncGenerator[tuple[Hub, Hub]]:
        """Two nodes on one log."""
        shared: Log | None = None if self.durable else make_log()
        async with AsyncExitStack() as stack:
            first, second = (Hub(shared or make_log(), presence=["room.*"], options=OPTIONS) for _ in range(2))
            yield await stack.enter_async_context(first), await stack.enter_async_context(second)

    @pytest.fixture
    async def watcher(self, pair: tuple[Hub, Hub]) -> AsyncIterator[Stream]:
        """A stream on the second node that only watches."""
        watcher = Stream(pair[1], True)
        while (await watcher.next()).event != "newswire.live":
            pass
        yield watcher
        await watcher.close()

    async def test_snapshot_then_tail_on_one_stream(self, pair: tuple[Hub, Hub]) -> None:
        """A late joiner gets everybody once, `newswire.live`, then each change and each event, under one cursor."""
        here, there = pair
        ada = Stream(here, Member("ada", {"name": "Ada"}))
        await ada.until_states({"ada": {"name": "Ada"}})
        bob = Stream(there, Member("bob"))
        assert await bob.until("ada", "bob") == [("ada", "join"), ("bob", "join")]
        await ada.until("ada", "bob")
        await here.publish(ROOM, "hello")
        while (await bob.next()).data != "hello":
            pass
        last = bob.events[-1].id
        await here.presence(ROOM).update("ada", {"name": "Ada", "x": 1})
        assert await bob.until_states({"ada": {"name": "Ada", "x": 1}, "bob": None}) == [("ada", "update")]
        await bob.close()
        again = Stream(there, Member("bob"), after=last)
        again.here = {"ada": {"name": "Ada"}, "bob": None}
        assert await again.until_states({"ada": {"name": "Ada", "x": 1}, "bob": None}) == [("ada", "update")]
        for stream in (ada, again):
            await stream.close()

    @pytest.mark.slow
    async def test_a_reconnect_is_no_leave_and_no_join(self, pair: tuple[Hub, Hub], watcher: Stream) -> None:
        """Whether it comes back to the same node or to the other one."""
        here, there = pair
        ada = Stream(here, Member("ada", STATE))
        await watcher.until("ada")
        for hub in (here, there, here, here, there):
            await ada.close()
            ada = Stream(hub, Member("ada", STATE))
            await ada.until("ada")
        bob = Stream(here, Member("bob"))
        assert await watcher.until("ada", "bob") == [("bob", "join")]
        await asyncio.sleep(2 * OPTIONS.presence.grace)  # whoever had it has let it go by then
        await bob.close()
        assert await watcher.until("ada") == [("bob", "leave")]
        assert await there.presence(ROOM).members() == {"ada": STATE}
        await ada.close()
        assert await watcher.until() == [("ada", "leave")]

    async def test_a_member_is_there_while_one_of_its_streams_is(self, pair: tuple[Hub, Hub], watcher: Stream) -> None:
        """Two tabs on two nodes are one member: one join, and one leave after the last."""
        here, there = pair
        tabs = [Stream(hub, Member("ada", "x")) for hub in (here, there, there)]
        for tab in tabs:
            await tab.until("ada")
        for tab in tabs:
            await tab.close()
        await watcher.until("ada")
        assert await watcher.until() == [("ada", "leave")]
        assert changes(watcher.events) == [("ada", "join"), ("ada", "leave")]

    @pytest.mark.slow
    async def test_the_members_of_a_dead_node_leave(self, pair: tuple[Hub, Hub], watcher: Stream) -> None:
        """Those that have come to another node meanwhile stay, without an event. Visitors count, and leave too."""
        here, there = pair
        streams = [Stream(here, Member(name)) for name in ("ada", "bob", "eve")]
        streams += [Stream(hub, Member()) for hub in (here, here, there)]
        await watcher.until("ada", "bob", "eve")
        for hub in pair:
            await until_count(hub, 6)
            assert await hub.presence(ROOM).members() == {"ada": None, "bob": None, "eve": None}
        await kill(here)
        streams.append(Stream(there, Member("bob")))
        assert sorted(await watcher.until("bob")) == [("ada", "leave"), ("eve", "leave")]
        with anyio.fail_after(PATIENCE):  # a reader may have the event before the node knows that it is stored
            while there.stats().presence_changes.get("expire") != 2:
                await asyncio.sleep(0.02)
        assert await there.presence(ROOM).members() == {"bob": None}
        await until_count(there, 2)
        for stream in streams:
            await stream.close()
        assert await watcher.until() == [("bob", "leave")]
        await until_count(there, 0)

    @pytest.mark.slow
    async def test_a_node_that_was_taken_for_dead_has_its_members_again(
        self, pair: tuple[Hub, Hub], watcher: Stream
    ) -> None:
        """It gave no heartbeat, and others judged it; when it goes on, those who are still there join again."""
        here = pair[0]
        ada = Stream(here, Member("ada", "state"))
        await watcher.until("ada")
        node = node_of(here)
        renew = node._leases.renew
        held_up = asyncio.Event()

        async def hang(**more: object) -> None:
            await held_up.wait()
            await renew(**more)

        node._leases.renew = hang  # type: ignore[method-assign]
        follow = node._tasks[0]
        await follow.close()  # it stands still: it reads nothing either
        assert await watcher.until() == [("ada", "leave")]
        follow.over = False
        follow.start()
        held_up.set()
        assert await watcher.until_states({"ada": "state"}) == [("ada", "join")]
        await ada.close()

    async def test_a_node_that_closes_leaves_its_members_the_grace_time(
        self, pair: tuple[Hub, Hub], watcher: Stream
    ) -> None:
        """They come to another node without a leave; the others leave."""
        here, there = pair
        streams = [Stream(here, Member(name)) for name in ("ada", "bob")]
        for stream in streams:
            await stream.until("ada", "bob")
        await watcher.until("ada", "bob")
        await node_of(here).close()
        ada = Stream(there, Member("ada"))
        assert await watcher.until("ada") == [("bob", "leave")]
        await ada.close()

    async def test_states_are_stored_once_a_tick(self, pair: tuple[Hub, Hub], watcher: Stream) -> None:
        """A thousand changes of one member's cursor are a few events, and the last one counts."""
        here, there = pair
        ada = Stream(here, Member("ada"))
        await watcher.until("ada")
        for number in range(1000):
            await there.presence(ROOM).update("ada", number)
        found = await watcher.until_states({"ada": 999})
        assert len(found) < 100
        with pytest.raises(LookupError, match="'bob' is not on"):
            await there.presence(ROOM).update("bob", 1)
        await ada.close()

    async def test_changes_can_be_iterated_over(self, pair: tuple[Hub, Hub]) -> None:
        """First who is there, then each change."""
        here, there = pair
        ada = Stream(here, Member("ada", 1))
        await ada.until("ada")
        events = aiter(there.presence(ROOM))
        first = await next_event(events, timeout=PATIENCE)
        assert (first.member, first.kind, first.state) == ("ada", "join", 1)
        await here.presence(ROOM).update("ada", 2)
        second = await next_event(events, timeout=PATIENCE)
        assert (second.member, second.kind, second.state) == ("ada", "update", 2)
        await ada.close()
        assert (await next_event(events, timeout=PATIENCE)).kind == "leave"
        await events.aclose()  # type: ignore[attr-defined]

    @pytest.mark.slow
    async def test_a_wait_that_is_cancelled_loses_nothing(self, pair: tuple[Hub, Hub]) -> None:
        """Changes and numbers go on after it: the next call gives what came meanwhile."""
        here, there = pair
        changes, numbers = aiter(there.presence(ROOM)), aiter(there.presence(ROOM).counts())
        assert await anext(numbers) == 0
        for iterator in (changes, numbers):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(iterator), 0.05)
        stream = Stream(here, Member("ada"))
        with anyio.fail_after(PATIENCE):
            assert (await anext(changes)).kind == "join"
            assert await anext(numbers) == 1
        await stream.close()
        await changes.aclose()  # type: ignore[attr-defined]
        await numbers.aclose()  # type: ignore[attr-defined]
        with pytest.raises(StopAsyncIteration):
            await anext(changes)
        with pytest.raises(StopAsyncIteration):
            await anext(numbers)

    async def test_how_many_are_there_without_their_names(self, pair: tuple[Hub, Hub]) -> None:
        """The number as it is, then each other one, on every node; changes are counted where they were stored."""
        here, there = pair
        numbers = aiter(there.presence(ROOM).counts())
        assert await next_event(numbers, timeout=PATIENCE) == 0
        streams = [Stream(here, Member("ada")), Stream(there, Member("ada")), Stream(here, Member())]
        for expected in (2, 0):
            with anyio.fail_after(PATIENCE):
                while await anext(numbers) != expected:
                    pass
            if expected == 2:
                await here.presence(ROOM).update("ada", "busy")
                counted = [hub.stats() for hub in pair]
                assert [(each.members, each.visitors) for each in counted] == [(1, 1), (1, 0)]
                for stream in streams:
                    await stream.close()
        wanted = {"join": 1, "update": 1, "leave": 1}
        with anyio.fail_after(PATIENCE):  # see above
            while sum((Counter(hub.stats().presence_changes) for hub in pair), Counter()) != wanted:
                await asyncio.sleep(0.02)
        await numbers.aclose()  # type: ignore[attr-defined]

    @pytest.mark.slow
    async def test_members_who_left_long_ago_are_forgotten(self, make_log: MakeLog) -> None:
        """Neither the log nor a snapshot has them. A stream that was away for longer gets a gap, then everybody."""
        options = HubOptions(presence=PresenceOptions(heartbeat=0.8, grace=0.02, tick=0.01, forget_after=0.5))
        async with Hub(make_log(), presence=["room.*"], options=options) as hub:
            eve = Stream(hub, Member("eve"))
            watcher = Stream(hub, True)
            await watcher.until("eve")
            ada = Stream(hub, Member("ada"))
            await watcher.until("ada", "eve")
            cursor = watcher.events[-1].id
            for number in range(5):
                await hub.presence(ROOM).update("eve", number)
                await watcher.until_states({"ada": None, "eve": number})
            await watcher.close()
            await ada.close()
            left = Pattern("$presence.here.room.1.*")
            with anyio.fail_after(PATIENCE):
                while len((await hub.log.read(Channels([left]), 0, 10)).entries) != 1 or node_of(hub).roster.members(
                    ROOM
                ) != {"eve": 4}:
                    await asyncio.sleep(0.02)
            fresh = Stream(hub, True)
            while (await fresh.next()).event != "newswire.live":
                pass
            assert changes(fresh.events) == [("eve", "update")]
            again = Stream(hub, True, after=cursor)
            while (await again.next()).event != "newswire.live":
                pass
            assert [event.event for event in again.events] == ["newswire.gap", "newswire.presence", "newswire.live"]
            assert again.events[0].id == cursor
            back = Stream(hub, Member("ada"))
            assert await again.until("ada", "eve") == [("ada", "join")]
            for stream in (eve, fresh, again, back):
                await stream.close()

    async def test_after_a_gap_everybody_comes_again(self, make_log: MakeLog) -> None:
        """Also where messages are missing and no member is: a page clears its map at any gap."""
        shared: Log | None = None if self.durable else make_log()
        hub, later = (Hub(shared or make_log(), presence=["room.*"], options=OPTIONS) for _ in range(2))
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(hub)
            ada = Stream(hub, Member("ada", 1))
            await ada.until("ada")
            cursor = ada.events[-1].id
            for number in range(9):
                await hub.publish(ROOM, str(number))
            await hub.log.drop({ROOM: (await hub.log.span()).latest - 2})
            await stack.enter_async_context(later)  # its window is empty: what it sends is in the log
            away = Stream(later, True, after=cursor)
            while (await away.next()).event != "newswire.live":
                pass
            found = [(event.event, event.data) for event in away.events]
            assert [each for each, _ in found] == [
                "newswire.gap",
                "newswire.presence",
                "message",
                "message",
                "newswire.live",
            ]
            assert [data for each, data in found if each == "message"] == ["7", "8"]
            assert away.here == {"ada": 1}
            await hub.publish(ROOM, "9")
            assert (await away.next()).data == "9"
            await ada.close()
            await away.until()
            await away.close()
