"""A random walk: members come and go on three nodes that are killed and replaced. No ghost, no flicker, no double."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

import anyio
import pytest
from tests.hub.presence.suite import ROOM, Stream, kill

from newswire import Event, Hub, HubOptions, Member, PresenceOptions
from newswire.log.memory import MemoryLog
from newswire.testing.log_base import PATIENCE

pytestmark = pytest.mark.anyio

OPTIONS = HubOptions(presence=PresenceOptions(heartbeat=0.8, grace=0.1, tick=0.01))
NAMES = [f"m{number}" for number in range(8)]


class Walk:
    """Nodes on one log, and the streams of members on them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.log = MemoryLog()
        self.hubs = [self.hub() for _ in range(3)]
        self.dead: list[Hub] = []
        self.streams: list[tuple[str, Hub, Stream]] = []

    def hub(self) -> Hub:
        """A new node."""
        return Hub(self.log, presence=["room.*"], options=OPTIONS)

    def open(self, name: str, hub: Hub) -> None:
        """A stream of a member begins."""
        self.streams.append((name, hub, Stream(hub, Member(name, self.chance.randrange(3)))))

    async def step(self) -> None:
        """Something happens."""
        chance = self.chance.random()
        hub = self.chance.choice(self.hubs)
        if chance < 0.45 or not self.streams:
            self.open(self.chance.choice(NAMES), hub)
        elif chance < 0.75:
            await self.streams.pop(self.chance.randrange(len(self.streams)))[2].close()
        elif chance < 0.85:
            name, old, stream = self.streams.pop(self.chance.randrange(len(self.streams)))
            await stream.close()
            self.open(name, self.chance.choice([hub, old]))
        elif chance < 0.95:
            name = self.chance.choice(self.streams)[0]
            try:
                await hub.presence(ROOM).update(name, self.chance.randrange(100))
            except LookupError:
                pass  # it has not joined yet
        else:
            await self.kill(hub)

    async def kill(self, hub: Hub) -> None:
        """A node is killed; its clients come to others, or never again. Another node takes its place."""
        await kill(hub)
        self.hubs.remove(hub)
        self.dead.append(hub)
        self.hubs.append(self.hub())
        theirs = [each for each in self.streams if each[1] is hub]
        self.streams = [each for each in self.streams if each[1] is not hub]
        for name, _, stream in theirs:
            await stream.close()
            if self.chance.random() < 0.5:
                self.open(name, self.chance.choice(self.hubs))

    @property
    def here(self) -> set[str]:
        """The members with a stream."""
        return {name for name, _, _ in self.streams}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.slow
async def test_everybody_knows_who_is_there(seed: int) -> None:
    """After any walk each node and each reader has exactly those with a stream; joins and leaves take turns."""
    walk = Walk(seed)
    watcher_hub = walk.hub()
    watcher = Stream(watcher_hub, True)
    seen: list[Event] = watcher.events
    for _ in range(60):
        await walk.step()
        await asyncio.sleep(walk.chance.random() * 0.03)
    with anyio.fail_after(PATIENCE):
        for hub in (watcher_hub, *walk.hubs):
            while set(await hub.presence(ROOM).members()) != walk.here:
                await asyncio.sleep(0.02)
    await watcher.until(*walk.here)
    present: Counter[str] = Counter()
    for event in seen:
        if event.event == "newswire.presence":
            found = json.loads(event.data)
            present[found["member"]] += {"join": 1, "leave": -1, "update": 0}[found["change"]]
            assert present[found["member"]] in ((1,) if found["change"] != "leave" else (0,)), found
    assert {name for name, count in present.items() if count} == walk.here
    # No one who stays is seen to leave later.
    before = len(seen)
    await asyncio.sleep(2 * OPTIONS.presence.grace)
    assert [event.data for event in seen[before:] if '"leave"' in event.data] == []
    for _, _, stream in walk.streams:
        await stream.close()
    await watcher.close()
    for hub in (watcher_hub, *walk.hubs, *walk.dead):
        await hub.close()
