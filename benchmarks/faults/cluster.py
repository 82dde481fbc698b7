"""The processes of a trial: what keeps the log, two `newswire serve` on it, and the proxies between them all.

Each server has a way of its own to the log's server, and its clients have two ways to it: one of them, and the way to
the log, lead through a proxy that can cut them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol, Self

from tests.fixtures.engines import Nats, Postgres, Server, Valkey
from tests.fixtures.serve import Serve
from tests.fixtures.tcp_proxy import TcpProxy

RETRY_MS: Final = 500
_FLAGS: Final = ("--retention", "none", "--heartbeat", "1", "--retry", str(RETRY_MS), "--grace", "1")
_LOCK: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


class Keeper(Protocol):
    """What keeps the log.

    Attributes:
        outage: what `stop` does, in words.
        proxies: those between the servers and the log.
    """

    outage: str
    proxies: list[TcpProxy]

    def url(self, number: int) -> str:
        """The log's URL for one of the servers."""
        ...

    def stop(self) -> None:
        """Take it away …"""
        ...

    def start(self) -> None:
        """… and give it back."""
        ...


class File:
    """An SQLite file."""

    outage = "the file locked by another process for {seconds:g} s"

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.proxies: list[TcpProxy] = []
        self._path = folder / "events.db"
        self._holder: subprocess.Popen[bytes] | None = None
        stack.callback(self.start)

    def url(self, number: int) -> str:
        """See `Keeper.url`."""
        return f"sqlite:///{self._path}"

    def stop(self) -> None:
        """See `Keeper.stop`."""
        command = [sys.executable, "-c", _LOCK, str(self._path)]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"locked\n"

    def start(self) -> None:
        """See `Keeper.start`."""
        if self._holder is not None:
            self._holder.communicate()
            self._holder = None


class LogServer:
    """A server that keeps the log."""

    outage = "the log's server stopped for {seconds:g} s"

    def __init__(self, server: Server, url: str, stack: ExitStack) -> None:
        self.server = stack.enter_context(server)
        self.proxies = [stack.enter_context(TcpProxy(server.port)) for _ in range(2)]
        self._url = url

    def url(self, number: int) -> str:
        """See `Keeper.url`."""
        return self._url.format(port=self.proxies[number].port)

    def stop(self) -> None:
        """See `Keeper.stop`."""
        self.server.stop()

    def start(self) -> None:
        """See `Keeper.start`."""
        self.server.start()


class Origin:
    """A third `newswire serve`, on an SQLite file, whose edges the two servers are."""

    outage = "the origin stopped for {seconds:g} s"

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        own = folder / "origin"
        own.mkdir()
        flags = ("--log", f"sqlite:///{own}/events.db", "--edge-key", "k", *_FLAGS)
        self._origin = stack.enter_context(Serve(own, *flags))
        self.proxies = [stack.enter_context(TcpProxy(self._origin.port)) for _ in range(2)]

    def url(self, number: int) -> str:
        """See `Keeper.url`."""
        return f"http://:k@127.0.0.1:{self.proxies[number].port}/?timeout=2"

    def stop(self) -> None:
        """See `Keeper.stop`."""
        self._origin.stop()

    def start(self) -> None:
        """See `Keeper.start`."""
        self._origin.start()


@dataclass(frozen=True, slots=True)
class Kind:
    """An engine to try.

    Attributes:
        title: its name for people.
        keeper: starts what keeps the log.
    """

    title: str
    keeper: Callable[[Path, ExitStack], Keeper]


def _valkey(folder: Path, stack: ExitStack) -> Keeper:
    return LogServer(
        Valkey("--appendonly", "yes", "--appendfsync", "always", on_disk=True),
        "redis://127.0.0.1:{port}/0?timeout=2",
        stack,
    )


def _nats(folder: Path, stack: ExitStack) -> Keeper:
    return LogServer(Nats(on_disk=True), "nats://127.0.0.1:{port}?timeout=2", stack)


def _postgres(folder: Path, stack: ExitStack) -> Keeper:
    return LogServer(Postgres(on_disk=True), "postgresql://postgres@127.0.0.1:{port}/postgres?timeout=2", stack)


KINDS: Final[Mapping[str, Kind]] = {
    "sqlite": Kind("SQLite", File),
    "valkey": Kind("Valkey, appendfsync always", _valkey),
    "nats": Kind("NATS JetStream", _nats),
    "postgres": Kind("PostgreSQL", _postgres),
    "edge": Kind("Two edges of a server on SQLite", Origin),
}


class Cluster:
    """Two servers on one log. Use it as a context manager.

    Attributes:
        keeper: what keeps the log.
        servers: the servers.
        doors: a proxy in front of each.
    """

    keeper: Keeper
    servers: list[Serve]
    doors: list[TcpProxy]

    def __init__(self, kind: str) -> None:
        self._kind = KINDS[kind]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:  # if anything fails here, what was started ends
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="newswire-faults-")))
            self.keeper = self._kind.keeper(folder, stack)
            self.servers, self.doors = [], []
            for number in range(2):
                own = folder / f"server-{number}"
                own.mkdir()
                self.servers.append(stack.enter_context(Serve(own, "--log", self.keeper.url(number), *_FLAGS)))
                self.doors.append(stack.enter_context(TcpProxy(self.servers[-1].port)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def port(self, number: int, *, door: bool) -> int:
        """Where one of the servers is, perhaps through its proxy."""
        return self.doors[number].port if door else self.servers[number].port

    def said(self) -> str:
        """The last words of both servers."""
        return "\n".join(server.stderr()[-2000:] for server in self.servers)
