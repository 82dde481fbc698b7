"""Logs in trouble under open streams, over HTTP: away for a while; wiped; or put back to an older state."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx2
import nats
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.fixtures.engines import Nats, Postgres, Server, Valkey
from tests.fixtures.serve import PATIENCE, Reader, Serve

from newswire.wire import Event

pytestmark = pytest.mark.slow


class Kept(ABC):
    """Where a log is.

    Attributes:
        url: the log's.
    """

    url: str

    @abstractmethod
    def wipe(self) -> None:
        """Remove the log, as it is."""

    @abstractmethod
    def take_away(self) -> None:
        """Keep everyone from storing anything …"""

    @abstractmethod
    def give_back(self) -> None:
        """… for some time."""

    @abstractmethod
    def remember(self) -> None:
        """Make a copy of its present state …"""

    @abstractmethod
    def go_back(self) -> None:
        """… and put that in the place of what is there."""


class File(Kept):
    """An SQLite file."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.path = folder / "events.db"
        self.url = f"sqlite:///{self.path}?busy_timeout=0.3"
        self._stack = stack

    def wipe(self) -> None:
        """See `Kept`."""
        for file in self.path.parent.glob("events.db*"):
            file.unlink()

    def take_away(self) -> None:
        """See `Kept`."""
        self._holder = self._stack.enter_context(closing(sqlite3.connect(self.path, isolation_level=None)))
        self._holder.execute("BEGIN IMMEDIATE")

    def give_back(self) -> None:
        """See `Kept`."""
        self._holder.execute("ROLLBACK")

    def remember(self) -> None:
        """See `Kept`."""
        with closing(sqlite3.connect(self.path)) as here, closing(sqlite3.connect(f"{self.path}.copy")) as there:
            here.backup(there)

    def go_back(self) -> None:
        """See `Kept`."""
        os.replace(f"{self.path}.copy", self.path)


class OnValkey(Kept):
    """A Valkey server that keeps what `SAVE` wrote."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.server = stack.enter_context(Valkey("--dbfilename", "log.rdb"))
        self.url = self.server.url

    def wipe(self) -> None:
        """See `Kept`."""
        self.server.ask("FLUSHALL")

    def take_away(self) -> None:
        """See `Kept`."""
        assert self.server.ask("SAVE") == b"+OK\r\n"
        self.server.stop()

    def give_back(self) -> None:
        """See `Kept`."""
        self.server.start()

    def remember(self) -> None:
        """See `Kept`."""
        assert self.server.ask("SAVE") == b"+OK\r\n"
        shutil.copy(self.server.folder / "log.rdb", self.server.folder / "old.rdb")

    def go_back(self) -> None:
        """See `Kept`."""
        self.server.kill()
        shutil.copy(self.server.folder / "old.rdb", self.server.folder / "log.rdb")
        self.server.start()


class OnServer(Kept):
    """A server that can be stopped for a copy of its data, which are in a folder of this name."""

    data: str

    def __init__(self, server: Server, url: str) -> None:
        self.server = server
        self.url = url
        self._data, self._copy = (str(server.folder / name) for name in (self.data, "copy"))

    def take_away(self) -> None:
        """See `Kept`."""
        self.server.stop()

    def give_back(self) -> None:
        """See `Kept`."""
        self.server.start()

    def remember(self) -> None:
        """See `Kept`."""
        self.server.stop()
        subprocess.run(["cp", "-a", self._data, self._copy], check=True)
        self.server.start()

    def go_back(self) -> None:
        """See `Kept`."""
        self.server.stop()
        shutil.rmtree(self._data)
        os.replace(self._copy, self._data)
        self.server.start()


class OnPostgres(OnServer):
    """A PostgreSQL server."""

    data = "data"

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        server = stack.enter_context(Postgres())
        super().__init__(server, server.url)

    def wipe(self) -> None:
        """See `Kept`."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA newswire CASCADE")


class OnNats(OnServer):
    """A NATS server with JetStream."""

    data = "jetstream"

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        server = stack.enter_context(Nats())
        super().__init__(server, server.url)

    def wipe(self) -> None:
        """See `Kept`."""

        async def wipe() -> None:
            client = await nats.connect(self.url)
            streams = await client.jetstream().streams_info()
            for stream in streams:
                await client.jetstream().delete_stream(stream.config.name)
            await client.close()

        asyncio.run(wipe())


KINDS: dict[str, Callable[[Path, ExitStack], Kept]] = {
    "sqlite": File,
    "valkey": OnValkey,
    "nats": OnNats,
    "postgres": OnPostgres,
}


@pytest.fixture(params=KINDS)
def stack(request: pytest.FixtureRequest) -> Iterator[ExitStack]:
    """Ends what a test has started."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def kept(stack: ExitStack, tmp_path: Path, request: pytest.FixtureRequest) -> Kept:
    """A log of the test's own."""
    return KINDS[request.node.callspec.params["stack"]](tmp_path, stack)


@pytest.fixture
def servers(stack: ExitStack, kept: Kept, tmp_path: Path) -> list[Serve]:
    """Two of newswire's servers on it."""
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        flags = ("--log", kept.url, "--retention", "none", "--heartbeat", "1")
        found.append(stack.enter_context(Serve(tmp_path / name, *flags)))
    return found


def publish(server: Serve, data: str) -> str:
    """Publish an event, again while the server says that it can't. Returns its id."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = httpx2.post(
            f"{server.url}/channels/news", content=data, headers={"idempotency-key": data}, timeout=PATIENCE
        )
        if answer.status_code == 200:
            return str(answer.json()["id"])
        assert answer.status_code in (503, 504), answer.text
        assert int(answer.headers["retry-after"]) > 0
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def up_to(reader: Reader, data: str) -> list[Event]:
    """What a reader gets up to an event with this data."""
    found: list[Event] = []
    while not found or found[-1].data != data:
        found += reader.read(1)
    return found


@pytest.mark.parametrize("back", [False, True], ids=["wiped", "put back"])
def test_every_subscriber_gets_a_gap_and_then_what_is_new(
    back: bool, kept: Kept, servers: list[Serve], stack: ExitStack
) -> None:
    """Streams stay open, also if no one publishes; cursors of what is lost get a gap, others none."""
    paths = ("/channels/news", "/channels/*", "/stream?channel=news&channel=quiet")
    readers = [stack.enter_context(Reader(server.url + path)) for server in servers for path in paths]
    for reader in readers:
        reader.opened()
    early = [publish(servers[number % 2], f"early {number}") for number in range(5)]
    kept.remember()
    late = [publish(servers[number % 2], f"late {number}") for number in range(5)]
    for reader in readers:
        assert len(reader.read(10)) == 10

    if back:
        kept.go_back()
    else:
        kept.wipe()
    for reader in readers:  # nothing is published meanwhile
        [gap] = reader.read(1)
        assert gap.event == "newswire.gap"
    new = [publish(server, f"new {number}") for number, server in enumerate(servers)]
    assert new[0].partition("-")[0] == new[1].partition("-")[0] != late[0].partition("-")[0]
    for reader in readers:
        events = up_to(reader, "new 1")
        assert [event.data for event in events if event.data.startswith("new")] == ["new 0", "new 1"]
        assert [event.event for event in events] == ["message"] * len(events)
        assert events[-1].id == new[1]

    left = ["early"] * 5 if back else []
    for server in servers:
        for cursor, begins in ((late[4], ["newswire.gap", *left]), (early[4], [] if back else ["newswire.gap"])):
            with Reader(f"{server.url}/channels/news", {"Last-Event-ID": cursor}) as reader:
                assert reader.answer.status_code == 200
                events = up_to(reader, "new 1")
                words = [event.data.partition(" ")[0] if event.event == "message" else event.event for event in events]
                assert words == [*begins, "new", "new"]
        assert server.process.poll() is None
        said = server.stderr()
        assert "Traceback" not in said
        assert said.count("streams go on behind a gap") == 1
        assert said.count("is not available now") <= 2  # for a copy of its data a server is stopped
        until(
            lambda server=server: (
                server.stderr().count("is not available now") == server.stderr().count("available: this is over")
            )
        )


def test_a_log_that_is_away(kept: Kept, servers: list[Serve], stack: ExitStack) -> None:
    """Streams stay open with heartbeats; publishing fails fast; operators see it, in one line; then all goes on."""
    readers = [stack.enter_context(Reader(f"{server.url}/channels/news")) for server in servers]
    for reader in readers:
        reader.opened()
    publish(servers[0], "before")
    for reader in readers:
        assert [event.data for event in reader.read(1)] == ["before"]
    assert [log_of(server) for server in servers] == [("up", 1, 0)] * 2

    kept.take_away()
    for server in servers:
        answer = httpx2.post(f"{server.url}/channels/news", content="refused", timeout=PATIENCE)
        assert answer.status_code == 503
        assert answer.json()["code"] == "log_unavailable"
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        until(lambda server=server: log_of(server) == ("down", 0, 1))
        begun = time.monotonic()
        assert httpx2.post(f"{server.url}/channels/news", content="refused", timeout=PATIENCE).status_code == 503
        assert time.monotonic() - begun < 2
    assert [server.stderr().count("is not available now") for server in servers] == [1, 1]
    for reader in readers:  # heartbeats
        reader.wait_for_bytes()

    with ThreadPoolExecutor() as pool:
        url, prefer = f"{servers[0].url}/channels/news", {"prefer": "respond-async, wait=30"}
        waiting = pool.submit(httpx2.post, url, content="waited", headers=prefer, timeout=2 * PATIENCE)
        until(lambda: retries_of(servers[0]) > 3)
        kept.give_back()
        assert waiting.result().status_code == 200
    publish(servers[1], "after")
    for reader in readers:
        assert [event.data for event in reader.read(2)] == ["waited", "after"]
    for server in servers:
        until(lambda server=server: log_of(server) == ("up", 1, 1))
        assert httpx2.get(f"{server.url}/health/ready").json()["log"] == "up"
        assert server.stderr().count("is not available now") == 1
        assert server.stderr().count("available: this is over") == 1


def retries_of(server: Serve) -> float:
    """How many attempts to use the log have failed."""
    text = httpx2.get(f"{server.url}/metrics", timeout=PATIENCE).text
    samples = {one.name: one.value for family in text_string_to_metric_families(text) for one in family.samples}
    return float(samples["newswire_log_retries_total"])


def log_of(server: Serve) -> tuple[str, float, float]:
    """What the console says of the log, and the metrics: whether it is up, and the outages so far."""
    numbers = httpx2.get(f"{server.url}/console/stats", timeout=PATIENCE).json()
    text = httpx2.get(f"{server.url}/metrics", timeout=PATIENCE).text
    samples = {one.name: one.value for family in text_string_to_metric_families(text) for one in family.samples}
    return numbers["log_state"], samples["newswire_log_up"], samples["newswire_log_outages_total"]


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
