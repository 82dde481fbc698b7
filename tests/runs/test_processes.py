"""Runs in several real processes on one SQLite file: one producer a key, stops, and kill -9."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from tests.runs.process import LEASE

from newswire import Hub
from newswire.runs import Runs, WorkerOptions

pytestmark = pytest.mark.anyio

PATIENCE = 60.0


class Worker:
    """A process of `process.py`."""

    def __init__(self, log: Path, *arguments: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name("process.py")), str(log), *arguments]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(PATIENCE)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()

    def until(self, event: str) -> dict[str, Any]:
        """Read what it says up to `event`."""
        assert self.popen.stdout is not None
        while True:
            line = self.popen.stdout.readline()
            assert line, f"the process ended before it said {event!r}: {self.said}"
            self.said.append(json.loads(line))
            if self.said[-1]["event"] == event:
                return self.said[-1]

    def tell(self) -> None:
        """Let it go on."""
        assert self.popen.stdin is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def end(self) -> None:
        """Let it end in order, and read the rest of what it says."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.close()
        self.said += [json.loads(line) for line in self.popen.stdout]
        assert self.popen.wait(PATIENCE) == 0

    def count(self, event: str) -> int:
        return sum(said["event"] == event for said in self.said)


@contextmanager
def workers(log: Path, count: int, *arguments: str) -> Iterator[list[Worker]]:
    made = [Worker(log, *arguments) for _ in range(count)]
    try:
        for worker in made:
            worker.until("ready")
        for worker in made:
            worker.tell()
        yield made
    finally:
        for worker in made:
            worker.__exit__()


@pytest.mark.slow
async def test_one_key_has_one_producer_among_processes(tmp_path: Path) -> None:
    """Eight processes start 25 times each at the same moment: one run, one producer, and 199 that only attach."""
    log = tmp_path / "log.db"
    with workers(log, 8, "start", "chat.1", "request 1", "25") as made:
        ids = {tuple(worker.until("started")["ids"]) for worker in made}
        assert len(ids) == 1
        [[run_id]] = ids
        async with Hub(f"sqlite:///{log}") as hub, Runs(hub, public=True) as runs:
            run = await runs.get(run_id)
            assert await run.state() == "running"
            assert await run.stop()
        for worker in made:
            worker.end()
        assert sum(worker.count("began") for worker in made) == 1
        assert sum(worker.count("closed") for worker in made) == 1


@pytest.mark.slow
async def test_stop_from_another_process(tmp_path: Path) -> None:
    """A stop in one process ends the producer in another at once, and readers in a third."""
    log = tmp_path / "log.db"
    with workers(log, 1, "start", "chat.1", "k", "1") as [producer]:
        [run_id] = producer.until("started")["ids"]
        async with Hub(f"sqlite:///{log}") as hub, Runs(hub, public=True) as runs:
            reader = (await runs.get(run_id)).subscribe()
            first = await anext(aiter(reader))
            assert first.data == "tick "
            with Worker(log, "stop", run_id) as stopper:
                stopped = stopper.until("stopped")
                assert stopped["stopped"] is True
                closed = producer.until("closed")
                stopper.end()
            assert (await (await runs.get(run_id)).wait()).reason == "stopped"
        # The log is looked at every 30 ms; ten times the promised 100 ms is room for a busy machine.
        assert (closed["at"] - stopped["begun"]) / 1e9 < 1.0
        producer.end()


@pytest.mark.slow
async def test_kill_9_leaves_interrupted_within_the_lease(tmp_path: Path) -> None:
    """The worker is killed in mid-answer; its reader in another process gets what was stored, then `interrupted`."""
    log = tmp_path / "log.db"
    with workers(log, 1, "start", "chat.1", "k", "1") as [producer]:
        [run_id] = producer.until("started")["ids"]
        async with Hub(f"sqlite:///{log}") as hub, Runs(hub, public=True, worker=WorkerOptions(lease=LEASE)) as runs:
            run = await runs.get(run_id)
            events = []
            killed = 0.0
            async for event in run.subscribe():
                events.append(event)
                if len(events) == 20:
                    producer.popen.kill()
                    killed = time.monotonic()
            took = time.monotonic() - killed
            assert events[-1].json() == {"reason": "interrupted"}
            assert {event.data for event in events[:-1]} == {"tick "}
            assert "".join(event.data for event in events[:-1]) == await run.text()
            assert took < LEASE + 10  # the promise is the lease; the rest is room for a busy machine


@pytest.mark.slow
async def test_a_process_that_comes_later_ends_what_a_dead_one_left(tmp_path: Path) -> None:
    """Where no process could see it, the first process that opens the log sees that a run has lost its worker."""
    log = tmp_path / "log.db"
    with workers(log, 1, "start", "chat.1", "k", "1") as [producer]:
        [run_id] = producer.until("started")["ids"]
        producer.popen.kill()
        producer.popen.wait(PATIENCE)
    async with Hub(f"sqlite:///{log}") as hub, Runs(hub, public=True, worker=WorkerOptions(lease=LEASE)) as runs:
        assert (await (await runs.get(run_id)).wait()).reason == "interrupted"
