"""People on two real nodes with one log: kill -9, nodes and clients that stand still or vanish, quick reconnects."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.network import Network, networks_can_be_made
from tests.fixtures.people import Person, gather
from tests.fixtures.serve import Serve

pytestmark = pytest.mark.anyio

HEARTBEAT = 3.0
GRACE = 1.5
# What may come on top of the heartbeat on a busy machine. `python -m benchmarks presence` measures what does.
SLACK = 10.0


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Serve]]:
    """Two nodes on one file."""
    with ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            flags = ("--log", f"sqlite:///{tmp_path}/log.db", "--presence", "room.*")
            times = ("--presence-heartbeat", f"{HEARTBEAT}s", "--presence-grace", f"{GRACE}s")
            made.append(stack.enter_context(Serve(tmp_path / name, *flags, *times)))
        yield made


def members(node: Serve) -> list[str]:
    """The members, as the node answers."""
    return [each["member"] for each in httpx2.get(f"{node.url}/presence/room.1").json()["members"]]


@pytest.mark.slow
async def test_a_node_is_killed(nodes: list[Serve]) -> None:
    """Whoever comes to the other node stays without an event; the others leave; reconnects are not seen."""
    one, two = nodes
    people = [Person(f"m{number}") for number in range(40)]
    names = {str(person.name) for person in people}
    watcher = Person(None)
    await watcher.come(two.port)
    await gather(people, [one.port, two.port])
    await watcher.until_here(names)
    moved = time.monotonic()
    await gather(people[:10], [two.port, two.port, one.port])  # each to the other node, or the same
    in_time = time.monotonic() - moved < GRACE
    on_one = [
        *(person for person in people[10:] if int(str(person.name)[1:]) % 2 == 0),
        people[2],
        people[5],
        people[8],
    ]
    back, lost = on_one[::2], {str(person.name) for person in on_one[1::2]}
    one.process.kill()
    killed = time.monotonic()
    for person in on_one:
        person.go()
    await gather(back, [two.port])
    in_time &= time.monotonic() - killed < HEARTBEAT / 2  # no node is taken for dead sooner
    took = await watcher.until_here(names - lost) - killed
    assert took < HEARTBEAT + 1 + SLACK
    print(f"{took:.1f} s until those who did not come back had left")
    for person in people:
        if person.name not in lost:
            await person.until_here(names - lost)
    assert set(members(two)) == names - lost
    if in_time:  # not on a machine that is so slow that they were away for longer
        seen = [(member, change) for member, change, _ in watcher.changes]
        assert sorted(seen) == sorted([*((name, "join") for name in names), *((name, "leave") for name in lost)])
    for person in (*people, watcher):
        person.go()


@pytest.mark.slow
async def test_a_node_stands_still(nodes: list[Serve]) -> None:
    """Its members leave; when it goes on, those who are still connected join again."""
    one, two = nodes
    ada, bob, watcher = Person("ada"), Person("bob"), Person(None)
    await watcher.come(two.port)
    await ada.come(one.port)
    await bob.come(one.port)
    await watcher.until_here({"ada", "bob"})
    one.process.send_signal(signal.SIGSTOP)
    try:
        await watcher.until_here(())
        bob.go()
    finally:
        one.process.send_signal(signal.SIGCONT)
    await watcher.until_here({"ada"})
    assert await asyncio.to_thread(members, one) == ["ada"]
    assert [(member, change) for member, change, _ in watcher.changes if member == "ada"] == [
        ("ada", "join"),
        ("ada", "leave"),
        ("ada", "join"),
    ]
    for person in (ada, watcher):
        person.go()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT and network namespaces are Linux's")
async def test_a_cable_is_cut(tmp_path: Path) -> None:
    """A client whose packets are dropped from one moment to the next leaves, though no FIN and no RST comes."""
    if not networks_can_be_made():
        pytest.skip("this machine does not let us make networks")
    times = ("--presence-heartbeat", f"{HEARTBEAT}s", "--presence-grace", "1s")
    network = Network()
    try:
        flags = ("--host", "0.0.0.0", "--insecure", "--presence", "room.*", *times)
        with Serve(tmp_path, *flags) as node:
            watcher = Person(None)
            await watcher.come(node.port)
            crowd = Path(__file__).parents[1] / "delivery" / "crowd.py"
            path = "/channels/room.1?presence=join&member=ada"
            command = [sys.executable, str(crowd), network.host, str(node.port), "1", path]
            with subprocess.Popen(["ip", "netns", "exec", network.name, *command], stdout=subprocess.PIPE) as client:
                try:
                    await watcher.until_here({"ada"})
                    network.cut()
                    began = time.monotonic()
                    client.kill()  # its FIN goes nowhere
                    took = await watcher.until_here(()) - began
                finally:
                    client.kill()
            assert took < HEARTBEAT + 1 + SLACK
            print(f"{took:.1f} s until a client that vanished had left")
            watcher.go()
    finally:
        network.remove()


@pytest.mark.slow
async def test_nodes_are_restarted_one_after_the_other(nodes: list[Serve]) -> None:
    """Streams end with a goodbye, members come to the other node, and no one is seen to leave or join."""
    people = [Person(f"m{number}") for number in range(10)]
    names = {str(person.name) for person in people}
    await gather(people, [node.port for node in nodes])
    for person in people:
        await person.until_here(names)
    seen = [person.events for person in people]
    in_time = True
    for node, other in (nodes, nodes[::-1]):
        began = time.monotonic()
        stopping = asyncio.create_task(asyncio.to_thread(node.stop))
        moving = [person for person in people if person.port == node.port]
        for person in moving:
            await person.until(lambda person=person: person.goodbye)  # type: ignore[misc]
        await gather(moving, [other.port])
        in_time &= time.monotonic() - began < GRACE
        await stopping
        await asyncio.to_thread(node.start)
    await asyncio.sleep(2 * GRACE)  # a leave would come within one
    for person in people:
        await person.come(nodes[0].port)
        await person.until_here(names)
    assert [person.events for person in people] == seen or not in_time  # a machine may be too slow for the grace time
    for person in people:
        person.go()
