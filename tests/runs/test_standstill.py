"""Processes that stand still, die, or have wrong clocks, as a random walk over real ones: who ends whose runs."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.runs.process import LEASE
from tests.runs.test_processes import Worker

from newswire.log.channels import Channels
from newswire.log.sqlite import SqliteLog
from newswire.runs.store.record import RECORDS, Record, out_channel

pytestmark = pytest.mark.anyio


async def stored(path: Path) -> dict[str, tuple[Record, list[Any]]]:
    """All runs of a log: the newest record, and the events that readers get."""
    log = SqliteLog(path)
    try:
        latest = (await log.span()).latest
        records: dict[str, Record] = {}
        at = 0
        while at < latest:
            page = await log.read(Channels([RECORDS]), at, 1000)
            for entry in page.entries:
                records[entry.channel] = Record.read(entry)
            at = page.through
        return {
            record.id: (record, list((await log.read(Channels([out_channel(record.id)]), 0, 1000)).entries))
            for record in records.values()
        }
    finally:
        await log.close()


def stand_still(worker: Worker, seconds: float) -> None:
    """Stop a process as a machine does that has no time for it."""
    os.kill(worker.popen.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(worker.popen.pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_processes_in_trouble_end_nobody_elses_runs(tmp_path: Path, seed: int) -> None:
    """A random walk of standstills, kills and clocks that are wrong or step: one producer and one end for each run, an
    end for each reader, and the runs of workers that nothing happened to are done.
    """
    chance = random.Random(seed)
    log = tmp_path / "log.db"
    made = [Worker(log, "work", str(number), ahead) for number, ahead in enumerate(("0", "0", "30", "-3600"))]
    troubled: set[int] = set()
    try:
        for worker in made:
            worker.until("ready")
        for _ in range(6):
            worker = chance.choice(made[1:])  # nothing happens to the first
            match chance.choice(["briefly", "long", "long", "all", "clock", "kill"]):
                case "briefly":
                    stand_still(worker, LEASE * chance.uniform(0.05, 0.25))
                case "long":
                    troubled.add(worker.popen.pid)
                    stand_still(worker, LEASE * chance.uniform(0.6, 1.5))
                case "all":  # as a machine that sleeps: no process was awake to see a heartbeat
                    for each in made:
                        os.kill(each.popen.pid, signal.SIGSTOP)
                    await asyncio.sleep(LEASE * chance.uniform(1, 2))
                    for each in made:
                        os.kill(each.popen.pid, signal.SIGCONT)
                case "clock":
                    os.kill(worker.popen.pid, signal.SIGUSR1)
                case "kill" if len(made) > 3:
                    made.remove(worker)
                    troubled.add(worker.popen.pid)
                    worker.__exit__()
                    made.append(Worker(log, "work", str(100 + len(troubled)), str(chance.choice([0, 30, -30, 86400]))))
                    made[-1].until("ready")
            await asyncio.sleep(0.3)
        for worker in made:
            worker.tell()
        for worker in made:
            assert worker.until("all read")["count"] == worker.count("read")
            assert all(json.loads(said["end"])["reason"] for said in worker.said if said["event"] == "read")
    finally:
        for worker in made:
            worker.__exit__()
    runs = await stored(log)
    assert len(runs) > 10
    done = 0
    for record, events in runs.values():
        texts = [event.data for event in events if event.event == "message"]
        producers = [text.split(":")[0] for text in texts]
        producers = [one for one, before in zip(producers, [None, *producers], strict=False) if one != before]
        assert len(producers) <= 1 or record.takeover
        assert [int(text.split(":")[1]) for text in texts] == list(range(len(texts)))
        ends = [event for event in events if event.event == "newswire.end"]
        if record.state != "ended":  # the last to produce was killed, and no process is left to see it
            assert not ends
            continue
        assert ends == events[-1:]
        assert not record.takeover or ends[0].data == '{"reason":"done"}'
        assert not record.takeover or len(texts) == record.args["count"]
        if producers and int(producers[0]) not in troubled:
            assert json.loads(ends[0].data)["reason"] == "done", record
            assert len(producers) == 1
            done += 1
    assert done > 5


@pytest.mark.slow
async def test_who_stood_still_ends_nothing_when_it_wakes(tmp_path: Path) -> None:
    """A process that stands still for three quarters of its lease, again and again, leaves a healthy one its runs."""
    log = tmp_path / "log.db"
    with Worker(log, "work", "1", "0") as healthy, Worker(log, "work", "2", "30") as judge:
        healthy.until("read")  # it has runs when the other one comes
        judge.until("ready")
        for share in (0.75, 0.8, 1.0, 1.3):
            stand_still(judge, LEASE * share)
            await asyncio.sleep(0.2)
        for worker in (healthy, judge):
            worker.tell()
            worker.until("all read")
    ends = [
        json.loads(events[-1].data)["reason"]
        for record, events in (await stored(log)).values()
        if any(event.data.startswith(f"{healthy.popen.pid}:") for event in events)
    ]
    assert len(ends) > 5
    assert set(ends) == {"done"}
