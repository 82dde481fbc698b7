"""Many processes on one file: what one publishes the others get, in one order, soon; waiting costs next to nothing."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from newswire import Event, Hub
from newswire.log.sqlite import SqliteLog
from newswire.testing.log_base import closing, opened, read_all, take

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent


@pytest.mark.slow
async def test_a_publish_reaches_a_follower_in_another_process_soon(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    """On a quiet machine well under 50 ms at p99, and the follower's process needs under 1% of a core to wait."""
    path = tmp_path / "log.db"
    dice = random.Random(3)
    count = 150
    async with opened(SqliteLog(path)) as log:
        await log.span()
        command = [sys.executable, str(HERE / "follower.py"), str(path), str(count)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(count):
            await log.append([("a", Event(f"{time.monotonic()}"))])
            await asyncio.sleep(dice.uniform(0, 0.02))  # so that each comes at a moment of its own
        out, _ = await asyncio.to_thread(process.communicate)
    figures = json.loads(out)
    delays = sorted(figures["delays"])
    median, p99 = statistics.median(delays) * 1000, delays[int(0.99 * count)] * 1000
    record_property("delay in ms, median", median)
    record_property("delay in ms, p99", p99)
    record_property("CPU of an idle follower", figures["idle"])
    print(f"median {median:.1f} ms, p99 {p99:.1f} ms, idle {figures['idle']:.2%} of a core")
    assert len(delays) == count
    assert median < 1000  # what is promised is shown by the figures; this is far from it on any machine


@pytest.mark.slow
async def test_appends_of_many_processes_are_one_sequence(tmp_path: Path) -> None:
    """Four processes append at once: no offset is missing or used twice, and each batch is in one piece."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path)) as log, closing(log.follow(0)) as follower:
        processes = []
        for number in range(4):
            command = [sys.executable, str(HERE / "appender.py"), str(path), f"p{number}", f"{number}"]
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        mine = []
        for number in range(20):
            mine += await log.append([("mine", Event(f"me {number} {index} 5")) for index in range(5)])
        for process in processes:
            process.kill()
            process.communicate()
        stored = await read_all(log, ">")
        assert await take(follower, len(stored)) == stored
    assert [entry.offset for entry in stored] == list(range(1, len(stored) + 1))
    assert {entry.data.split(" ")[0] for entry in stored} == {"me", "p0", "p1", "p2", "p3"}
    at = 0
    while at < len(stored):
        name, batch, _, size = stored[at].data.split(" ")[:4]
        whole = [entry.data.split(" ")[:4] for entry in stored[at : at + int(size)]]
        assert whole == [[name, batch, str(index), size] for index in range(int(size))]
        at += int(size)
    assert [position.offset for position in mine] == [entry.offset for entry in stored if entry.channel == "mine"]


async def test_epochs(tmp_path: Path) -> None:
    """A file has one epoch for its life, whoever opens it; a new file has another, and old cursors get a gap there."""
    path = tmp_path / "log.db"
    async with opened(SqliteLog(path)) as one, opened(SqliteLog(path)) as two:
        epochs = {(await log.span()).epoch for log in (one, two)}
        [old] = await one.append([("a", Event("1"))])
    async with opened(SqliteLog(path)) as again:
        epochs.add((await again.span()).epoch)
    assert epochs == {old.epoch}
    for suffix in ("", "-wal", "-shm"):
        path.with_name(f"log.db{suffix}").unlink(missing_ok=True)
    async with Hub(f"sqlite:///{path}") as hub:
        new = await hub.publish("a", "2")
        assert new.epoch != old.epoch
        assert new.offset == old.offset
        events = aiter(hub.subscribe("a", after=old))
        gap, event = await anext(events), await anext(events)
        assert (gap.event, gap.json()["reason"], event.data) == ("newswire.gap", "epoch", "2")
        await events.aclose()


async def test_a_file_restored_from_a_copy(tmp_path: Path) -> None:
    """A cursor past the end, of the same epoch, gets a gap and what is kept."""
    path = tmp_path / "log.db"
    async with Hub(f"sqlite:///{path}") as hub:
        await hub.publish("a", "1")
    copy = path.read_bytes()
    async with Hub(f"sqlite:///{path}") as hub:
        after = await hub.publish("a", "2")
    path.write_bytes(copy)
    async with Hub(f"sqlite:///{path}") as hub:
        events = aiter(hub.subscribe("a", after=after))
        gap, event = await anext(events), await anext(events)
        assert (gap.json()["reason"], event.data) == ("future", "1")
        await events.aclose()
