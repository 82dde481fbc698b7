"""`newswire log copy`: while readers and publishers go on, and after a `kill -9`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import anyio
import httpx2
import pytest
from tests.fixtures.engines import Nats, Postgres, Valkey
from tests.fixtures.ports import free_port
from tests.fixtures.serve import NEWSWIRE, PATIENCE, Serve, call_newswire, clean_environment, run_newswire

from newswire.client import AsyncEventSource, Backoff, Options
from newswire.log import Retention, open_log
from newswire.testing.log_base import opened
from newswire.wire.event import Event

READERS = int(os.environ.get("NEWSWIRE_COPY_READERS", "20"))
RATE = 500  # events a second


class Readers:
    """Readers that hold cursors, and a publisher that tries again until each event is stored.

    Attributes:
        published: how many events are stored for certain.
    """

    def __init__(self, url: str) -> None:
        self.published = 0
        self.seen: list[list[str]] = [[] for _ in range(READERS)]
        self.gaps = 0
        self._url = url
        self._over = False

    async def read(self, seen: list[str]) -> None:
        """One reader, until it has seen the last event."""
        options = Options(backoff=Backoff(first=0.1, cap=0.3, longest=0.3))
        async with AsyncEventSource(f"{self._url}/channels/news", options=options) as source:
            async for event in source:
                self.gaps += event.event == "newswire.gap"
                if event.data == "last":
                    return
                if event.event == "message":
                    seen.append(event.data)

    async def publish(self) -> None:
        """Publish numbers at a steady rate, in batches; each under its key, until it is stored."""
        async with httpx2.AsyncClient(base_url=self._url, timeout=10) as client:
            begin = time.monotonic()
            while not self._over:
                size = RATE // 50
                lines = "".join(json.dumps({"data": str(self.published + each)}) + "\n" for each in range(size))
                await self._post(client, lines, str(self.published))
                self.published += size
                await asyncio.sleep(max(0.0, begin + self.published / RATE - time.monotonic()))
            await self._post(client, '{"data": "last"}\n', "last")

    async def _post(self, client: httpx2.AsyncClient, lines: str, key: str) -> None:
        headers = {"content-type": "application/x-ndjson", "idempotency-key": key}
        while True:
            try:
                answer = await client.post("/channels/news", content=lines, headers=headers)
                if answer.status_code == 200:
                    return
                assert answer.status_code == 503, answer.text
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)

    def end(self) -> None:
        """Publish the last event."""
        self._over = True


def move(places: Sequence[str], folder: Path) -> Readers:
    """Let a server move from one log to the next, under readers and a publisher."""
    port = free_port()
    readers = Readers(f"http://127.0.0.1:{port}")

    def serve(log: str) -> Serve:
        return Serve(folder, "--log", log, "--retry", "100", "--grace", "2s", "--retention", "none", port=port)

    def more() -> None:
        """Let the publisher publish for a while."""
        enough, deadline = readers.published + RATE // 2, time.monotonic() + PATIENCE
        while readers.published < enough:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def steps() -> Serve:
        """What an operator does. Returns the last server."""
        server = serve(places[0])
        more()
        for old, new in pairwise(places):
            command = [NEWSWIRE, "log", "copy", "--from", old, "--to", new, "--follow", "--json"]
            copying = subprocess.Popen(
                command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment(), text=True
            )
            with copying:
                assert copying.stderr is not None
                assert "all is copied up to" in copying.stderr.readline()
                more()
                assert server.stop() == 0
                copying.send_signal(signal.SIGINT)
                out, said = copying.communicate(timeout=PATIENCE)
            assert copying.returncode == 0, said
            assert json.loads(out)["through"] > 0
            server = serve(new)
            more()
        readers.end()
        return server

    async def main() -> Serve:
        async with asyncio.timeout(240), asyncio.TaskGroup() as tasks:
            for seen in readers.seen:
                tasks.create_task(readers.read(seen))
            tasks.create_task(readers.publish())
            return await asyncio.to_thread(steps)

    asyncio.run(main()).stop()
    return readers


@pytest.mark.slow
def test_a_server_moves_house_under_load(tmp_path: Path, valkey: Valkey, nats: Nats, postgres: Postgres) -> None:
    """From SQLite to Valkey to NATS to PostgreSQL, with 500 events a second: no reader loses or doubles an event."""
    servers = (valkey, nats, postgres)
    places = ["sqlite:///old.db", *(f"{server.url}?namespace=moves{os.getpid()}" for server in servers)]
    readers = move(places, tmp_path)
    for place in places:
        done = call_newswire("log", "verify", place, folder=tmp_path)
        assert done.returncode == 0, done.stdout
    expected = [str(number) for number in range(readers.published)]
    for seen in readers.seen:
        begin = int(seen[0])  # a reader begins with the newest event
        assert seen == expected[begin:]
    assert readers.gaps == 0
    assert readers.published > 500


def test_a_copy_that_was_killed_goes_on(tmp_path: Path) -> None:
    """`kill -9` at any moment leaves a part; `--resume` makes it whole, and no other way does."""
    count = 30_000

    async def fill() -> None:
        log = open_log(f"sqlite:///{tmp_path}/old.db", retention=Retention())
        for begin in range(0, count, 1000):
            await log.append([(f"c{number % 7}", Event(str(number) * 50)) for number in range(begin, begin + 1000)])
        await log.close()

    anyio.run(fill)
    copy = ["log", "copy", "--from", "sqlite:///old.db", "--to", "sqlite:///new.db"]
    with subprocess.Popen([NEWSWIRE, *copy], cwd=tmp_path, env=clean_environment()) as process:
        deadline = time.monotonic() + PATIENCE
        while _size(tmp_path / "new.db-wal") < 1_000_000:
            assert process.poll() is None, "it was too fast"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    part = json.loads(call_newswire("log", "info", "sqlite:///new.db", "--json", folder=tmp_path).stdout)
    assert 0 < part["latest"] < count
    again = run_newswire(*copy, folder=tmp_path)
    assert again.returncode == 1
    assert f"the events up to {part['latest']:,} of this log already" in again.stderr.decode()
    done = run_newswire(*copy, "--resume", "--json", folder=tmp_path)
    assert json.loads(done.stdout)["events"] == count - part["latest"]
    old, new = (
        json.loads(call_newswire("log", "info", f"sqlite:///{name}.db", "--json", folder=tmp_path).stdout)
        for name in ("old", "new")
    )
    for same in ("epoch", "earliest", "latest", "events"):
        assert old[same] == new[same]
    assert call_newswire("log", "verify", "sqlite:///new.db", folder=tmp_path).returncode == 0


@pytest.mark.slow
def test_a_copy_that_finds_no_room(tmp_path: Path) -> None:
    """It says how far it came, and how to go on."""

    async def fill() -> None:
        async with opened(open_log(f"sqlite:///{tmp_path}/old.db", retention=Retention())) as log:
            for _ in range(4):
                await log.append([("a", Event("x" * 2000))] * 1000)

    anyio.run(fill)
    with Valkey("--maxmemory", "6mb") as server:
        copy = ["log", "copy", "--from", "sqlite:///old.db", "--to", server.url]
        done = call_newswire(*copy, folder=tmp_path)
        assert done.returncode == 1
        said = done.stderr.decode()
        assert "the copy was interrupted after 1,000: go on with --resume" in said or "after 2,000: go on" in said, said
        assert "is full: raise its maxmemory" in said
        server.ask("CONFIG", "SET", "maxmemory", "0")
        done = call_newswire(*copy, "--resume", folder=tmp_path)
        assert b"up to" in done.stdout, done.stderr


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_it_can_end_when_nothing_new_comes(tmp_path: Path) -> None:
    """For scripts: without a signal. A log is not copied into itself, and passwords are not shown."""
    call_newswire("log", "init", "sqlite:///old.db", folder=tmp_path)
    done = run_newswire(
        "log",
        "copy",
        "--from",
        "sqlite:///old.db",
        "--to",
        "sqlite:///new.db",
        "--until-idle",
        "200ms",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert b"start the servers with --log sqlite:///new.db now" in done.stdout
    same = call_newswire("log", "copy", "--from", "sqlite:///old.db", "--to", "sqlite:///old.db", folder=tmp_path)
    assert same.returncode == 2
    away = "redis://:hunter2@127.0.0.1:1/0"
    done = call_newswire("log", "copy", "--from", "sqlite:///old.db", "--to", away, folder=tmp_path)
    assert done.returncode == 1
    assert b"hunter2" not in done.stderr + done.stdout
    missing = call_newswire("log", "copy", "--from", "sqlite:///slip.db", "--to", "sqlite:///b.db", folder=tmp_path)
    assert b"there is no file slip.db" in missing.stderr
