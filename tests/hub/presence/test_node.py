"""Many members and many rooms: what is stored and removed goes in parts, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import anyio
import pytest
from tests.hub.presence.suite import kill, node_of

from newswire import Event, Hub, HubOptions, PresenceOptions
from newswire.hub.latest import FORGOTTEN
from newswire.hub.presence import names
from newswire.log.channels import Channels, Pattern
from newswire.log.memory import MemoryLog
from newswire.testing.log_base import PATIENCE

pytestmark = pytest.mark.anyio


async def test_all_who_left_long_ago_are_forgotten_in_one_round() -> None:
    """However many there are, and rooms that have no visitors any more; no single event has all of their names."""
    log = MemoryLog()
    keys = [("room.1", f"m{number}") for number in range(500)]
    rooms = [f"room.{number}" for number in range(500)]
    await log.append([(names.here(*key), Event(names.note_here(key, "leave", None))) for key in keys])
    await log.append([(names.held(*key), Event(names.note_held(key, [], "null"))) for key in keys])
    await log.append([(names.visitors(room, "dead"), Event(names.note_visitors(room, "dead", 0))) for room in rooms])
    options = HubOptions(presence=PresenceOptions(forget_after=0.001))
    async with Hub(log, presence=["room.*"], options=options) as hub:
        node = node_of(hub)
        for task in node._tasks[1:]:
            task.cancel()
        await node.ready.wait()
        assert len(node.roster.left) == 500
        await asyncio.sleep(0.001)
        await node._forget()
        assert not node.roster.left
        assert not node.roster.rooms
        kept = await log.read(Channels([Pattern("$presence.>")]), 0, 2000)
        assert {entry.channel for entry in kept.entries} == {FORGOTTEN}
        assert max(len(json.loads(entry.data)["channels"]) for entry in kept.entries) < 1000


async def test_visitors_of_many_rooms_are_noted_in_parts() -> None:
    """Also those of more rooms than a batch may have events: NATS takes 1,000."""
    async with Hub(MemoryLog(), presence=["room.*"]) as hub:
        node = node_of(hub)
        await node.ready.wait()
        append, sizes = node._append, []

        async def counted(batch: Sequence[tuple[str, Event]], condition: object) -> object:
            sizes.append(len(batch))
            return await append(batch, condition)  # type: ignore[arg-type]

        node._append = counted  # type: ignore[assignment]
        for number in range(1200):
            node.enter(f"room.{number}", None, "null")
        with anyio.fail_after(PATIENCE):
            while node.roster.visited[node.name] < 1200:
                await asyncio.sleep(0.01)
        assert max(sizes) <= 1000
        await kill(hub)
