"""Presence: 200 members of one room on two nodes, through reconnects and a kill -9; and what a change costs.

First they all come. Then a quarter of them reconnect at once, half of those to the other node: no one may see it. Then
one node is killed (kill -9): half of its members come back on the other node, and the others never do. The time runs
from the kill until every reader that is left has exactly the members that are there. A **ghost** is a member that
somebody has and that is not there; a **flicker** is a join or leave that somebody saw of a member that never left.

Then each of some members changes its state once, in rooms of several sizes: events stored for one change, and events
that one reader gets. Both stay the same however many members there are.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
from tests.fixtures.engines import Valkey
from tests.fixtures.people import Person, gather
from tests.fixtures.serve import Serve

from benchmarks.report import Cell, Say, Size, Table, median
from newswire.hub.presence.names import NODES
from newswire.log.open import open_log

TITLE: Final = "Presence"
_ROOM: Final = "room.1"


@dataclass(frozen=True, slots=True)
class _Killed:
    right: float  # seconds from the kill until all have exactly who is there
    ghosts: int
    flickers: int
    reconnects_seen: int


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about two minutes in full."""
    people = size.count(200, 200, 20)
    heartbeat = size.pick(5.0, 3.0, 2.0)
    rounds = size.count(3, 1, 1)
    rows: list[list[Cell]] = []
    for name, opened in (("SQLite", _sqlite), ("Valkey", _valkey))[size.count(0, 0, 1) :]:
        found = []
        for number in range(rounds):
            say(f"{name}, round {number + 1} of {rounds}: {people} members on two nodes, one is killed")
            with opened(heartbeat) as (nodes, _):
                found.append(asyncio.run(_kill(nodes, people, heartbeat)))
        rows.append(
            [
                name,
                median(one.right for one in found),
                max(one.right for one in found),
                max(one.ghosts for one in found),
                max(one.flickers for one in found),
                max(one.reconnects_seen for one in found),
            ]
        )
    columns = ("log", "s until right, median", "s, worst", "ghosts", "flickers", "reconnects that were seen")
    notes = (
        f"The heartbeat is {heartbeat:g} s, the grace time half of it. The target is {heartbeat + 1:g} s.",
        "Nodes, log and all clients share two cores.",
    )
    tables = [Table(f"{people} members on two nodes, one of which is killed (kill -9)", columns, rows, notes)]
    rows = []
    for count in (people // 4, people // 2, people)[size.count(0, 0, 2) :]:
        say(f"{count} members, of whom {people // 4} change their state once")
        with _sqlite(heartbeat) as (nodes, log):
            rows.append([count, *asyncio.run(_change(nodes, log, count, people // 4))])
    columns = ("members", "events stored a change", "events a reader gets a change", "bytes a reader gets a change")
    tables.append(Table("What one change of a member's state costs", columns, rows))
    return tables


@contextmanager
def _nodes(log: str, heartbeat: float) -> Iterator[tuple[Sequence[Serve], str]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="newswire-bench-")))
        url = log or f"sqlite:///{folder}/shared.db"
        times = ("--presence-heartbeat", f"{heartbeat}s", "--presence-grace", f"{heartbeat / 2}s")
        nodes = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            nodes.append(stack.enter_context(Serve(folder / name, "--presence", "room.*", "--log", url, *times)))
        yield nodes, url


@contextmanager
def _sqlite(heartbeat: float) -> Iterator[tuple[Sequence[Serve], str]]:
    with _nodes("", heartbeat) as found:
        yield found


@contextmanager
def _valkey(heartbeat: float) -> Iterator[tuple[Sequence[Serve], str]]:
    with Valkey() as server, _nodes(server.url, heartbeat) as found:
        yield found


async def _kill(nodes: Sequence[Serve], count: int, heartbeat: float) -> _Killed:
    ports = [node.port for node in nodes]
    people = [Person(f"m{number}", _ROOM) for number in range(count)]
    names = {str(person.name) for person in people}
    watcher = Person(None, _ROOM)
    await watcher.come(ports[1])
    await gather(people, ports)
    for person in (watcher, *people):
        await person.until_here(names)

    seen = watcher.events
    moving = people[: count // 4]
    for person in moving:
        person.go()
    await gather(moving, [ports[1], ports[0]] * 2 + ports * 2)
    await asyncio.sleep(heartbeat)  # twice the grace time
    reconnects_seen = watcher.events - seen

    on_one = [person for person in people if person.port == ports[0]]
    back, lost = on_one[::2], {str(person.name) for person in on_one[1::2]}
    killed = time.monotonic()
    nodes[0].process.kill()
    for person in on_one:
        person.go()
    await gather(back, [ports[1]])
    left = [person for person in people if person.name not in lost]
    right = max([await person.until_here(names - lost) for person in (watcher, *left)]) - killed

    await asyncio.sleep(heartbeat)
    answer = httpx2.get(f"{nodes[1].url}/presence/{_ROOM}").json()
    known = {each["member"] for each in answer["members"]}
    ghosts = len(known ^ (names - lost)) + sum(person.here.keys() != names - lost for person in (watcher, *left))
    wanted = {(name, "join") for name in names} | {(name, "leave") for name in lost}
    flickers = len(watcher.changes) - len(wanted)
    for person in (watcher, *people):
        person.go()
    return _Killed(right, ghosts, flickers, reconnects_seen)


async def _change(nodes: Sequence[Serve], url: str, count: int, changes: int) -> list[Cell]:
    people = [Person(f"m{number}", _ROOM) for number in range(count)]
    names = {str(person.name) for person in people}
    await gather(people, [node.port for node in nodes])
    for person in people:
        await person.until_here(names)
    stored = 0
    log = open_log(url)
    span = await log.span()

    async def count_stored() -> None:
        nonlocal stored
        async for entries in log.follow(span.latest):
            stored += sum(not entry.channel.startswith(NODES) for entry in entries)

    counting = asyncio.create_task(count_stored())
    events, size = sum(person.events for person in people), sum(person.bytes for person in people)
    async with httpx2.AsyncClient(timeout=60) as client:
        for person in people[:changes]:
            path = f"{nodes[0].url}/presence/{_ROOM}?member={person.name}"
            (await client.post(path, json={"name": person.name})).raise_for_status()
    for person in people:
        await person.until(lambda here=person.here: all(here[other.name] is not None for other in people[:changes]))  # type: ignore[misc]
    got = sum(person.events for person in people) - events
    more = sum(person.bytes for person in people) - size
    await asyncio.sleep(0.5)  # the follower of the file too
    counting.cancel()
    await asyncio.wait([counting])
    await log.close()
    for person in people:
        person.go()
    return [stored / changes, got / changes / count, more / changes / count]
