"""Sockets that are handed over: a restart under load, systemd's way, and what can't be served on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.serve import NEWSWIRE, PATIENCE, Reader, Serve, clean_environment

from newswire.client import EventSource

FLAGS = ("--log", "sqlite:///newswire.db", "--retry", "200", "--grace", "10s")
# systemd says for whom the sockets are, and knows that only after the fork: so does this shell.
_ACTIVATE = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'


class Supervisor:
    """What keeps a socket over the lives of the servers on it.

    Args:
        folder: where they run.
        family: of the socket: IPv4, or a Unix socket in the folder.
    """

    def __init__(self, folder: Path, family: socket.AddressFamily = socket.AF_INET) -> None:
        self._folder = folder
        self.socket = socket.socket(family)
        self.socket.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(folder / "newswire.sock"))
        self.socket.listen(1000)
        self.running: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def start(self, *flags: str, systemd: bool = False) -> subprocess.Popen[bytes]:
        """Start a server on the socket, and wait until it says that it runs."""
        command = [str(NEWSWIRE), "serve", *FLAGS, *flags]
        fd = self.socket.fileno()
        if systemd:  # the socket is number 3 there
            program = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execvp(sys.argv[2], sys.argv[2:])"
            command = [sys.executable, "-c", program, str(fd), "sh", "-c", _ACTIVATE, "-", *command]
        else:
            command += ["--fd", str(fd)]
        with (self._folder / "stderr").open("ab") as stderr:
            begun = (self._folder / "stderr").stat().st_size
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                pass_fds=sorted({fd, 3} if systemd and _is_open(3) else {fd}),
                stderr=stderr,
                env=clean_environment(),
            )
        self.running.append(process)
        deadline = time.monotonic() + PATIENCE
        while "Ctrl-C stops it" not in self.said()[begun:]:
            assert process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        return process

    def said(self) -> str:
        """What the servers have said."""
        return (self._folder / "stderr").read_text()

    def close(self) -> None:
        """End what runs."""
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(PATIENCE)
        self.socket.close()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor with no server yet."""
    with contextlib.closing(Supervisor(tmp_path)) as made:
        yield made


class Load:
    """Publishers that never try twice, and readers; each error of either is kept."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.published: list[str] = []
        self.read: list[list[str]] = [[] for _ in range(5)]
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._publish, args=(number,)) for number in range(4)]
        self._readers = [threading.Thread(target=self._read, args=(got,)) for got in self.read]

    def _publish(self, number: int) -> None:
        client = httpx2.Client(timeout=PATIENCE)
        count = 0
        try:
            while not self._stop.wait(0.01):
                count += 1
                text = f"{number}.{count}"
                # Two open a connection for each event, and two keep theirs.
                post = httpx2.post if number % 2 else client.post
                answer = post(f"{self.url}/channels/news", content=text, timeout=PATIENCE)
                assert answer.status_code == 200, answer.text
                self.published.append(text)
        except BaseException as error:
            self.errors.append(error)
        finally:
            client.close()

    def _read(self, got: list[str]) -> None:
        try:
            with EventSource(f"{self.url}/channels/news?from=earliest") as source:
                for event in source:
                    if event.event == "message":
                        got.append(event.data)
                        if event.data == "end":
                            return
        except BaseException as error:
            self.errors.append(error)

    def until(self, more: int) -> None:
        """Wait until so many more events were published, and read by all."""
        goal = len(self.published) + more
        deadline = time.monotonic() + PATIENCE
        while len(self.published) < goal or any(len(got) < goal for got in self.read):
            assert not self.errors, self.errors
            assert time.monotonic() < deadline, (len(self.published), [len(got) for got in self.read])
            time.sleep(0.01)

    def __enter__(self) -> Load:
        for thread in (*self._readers, *self._threads):
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        httpx2.post(f"{self.url}/channels/news", content="end", timeout=PATIENCE)
        for thread in self._readers:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a reader did not get the end"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlap", "flags"),
    [(False, ()), (True, ()), (False, ("--workers", "2"))],
    ids=["then the next", "beside the next", "with two workers"],
)
def test_a_restart_under_load_loses_nothing_and_refuses_no_one(
    supervisor: Supervisor, overlap: bool, flags: tuple[str, ...]
) -> None:
    """Whether the next server starts before or after the last one's end: no request fails, though none is repeated."""
    running = supervisor.start(*flags)
    with Load(supervisor.url) as load:
        load.until(20)
        if overlap:
            supervisor.start(*flags)
            load.until(20)
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
        if not overlap:
            supervisor.start(*flags)
        load.until(20)
    assert load.errors == []
    for got in load.read:
        assert Counter(got) == Counter([*load.published, "end"])


@pytest.mark.slow
def test_a_socket_of_systemd(supervisor: Supervisor) -> None:
    """LISTEN_PID and LISTEN_FDS are enough, and the server's URL is the socket's."""
    supervisor.start(systemd=True)
    assert supervisor.url in supervisor.said()
    assert httpx2.get(f"{supervisor.url}/health/ready", timeout=PATIENCE).status_code == 200


def test_a_unix_socket(tmp_path: Path) -> None:
    """A stream and a publisher on one; the path is what the server names."""
    with contextlib.closing(Supervisor(tmp_path, socket.AF_UNIX)) as supervisor:
        supervisor.start()
        assert f"unix:{tmp_path}/newswire.sock" in supervisor.said()
        transport = httpx2.HTTPTransport(uds=str(tmp_path / "newswire.sock"))
        with (
            httpx2.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE) as client,
            client.stream("GET", "/channels/news") as stream,
        ):
            chunks = stream.iter_text()
            next(chunks)
            assert client.post("/channels/news", content="hello").status_code == 200
            assert "data: hello\n" in next(chunks)


def test_a_stream_that_comes_at_the_stop_is_told_to_come_back(supervisor: Supervisor) -> None:
    """A request on its way when the signal comes gets a goodbye: a browser's EventSource takes an error for good."""
    process = supervisor.start()
    with Reader(f"{supervisor.url}/channels/news") as reader:
        reader.opened()
        with socket.create_connection(supervisor.socket.getsockname()) as late:
            late.sendall(b"GET /channels/news HTTP/1.1\r\n")
            with socket.create_connection(supervisor.socket.getsockname()) as accepted:  # and so the one before
                accepted.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert accepted.recv(1000)
            process.send_signal(signal.SIGTERM)
            assert [event.event for event in reader.rest()] == ["newswire.goodbye"]
            late.sendall(b"Host: localhost\r\n\r\n")
            answer = b"".join(iter(lambda: late.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"text/event-stream" in answer
    assert b"event: newswire.goodbye\n" in answer
    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("case", ["closed", "file", "silent", "public"])
def test_what_can_not_be_served_on(tmp_path: Path, case: str) -> None:
    """A descriptor that is not open, no socket, a socket that does not listen, and one that the whole net reaches."""
    with socket.socket() as bound, (tmp_path / "file").open("w") as file:
        if case == "public":
            bound.bind(("0.0.0.0", 0))
            bound.listen()
        fd = {"closed": 900, "file": file.fileno()}.get(case, bound.fileno())
        done = subprocess.run(
            [str(NEWSWIRE), "serve", "--fd", str(fd)],
            cwd=tmp_path,
            pass_fds=() if case == "closed" else (fd,),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=clean_environment(),
            check=False,
        )
    assert done.returncode == 1
    says = {"closed": "is not open", "file": "is no socket", "silent": "does not listen", "public": "--insecure"}
    assert says[case] in done.stderr
    assert "Traceback" not in done.stderr


def test_idle_connections_are_kept_as_long_as_asked(tmp_path: Path) -> None:
    """A load balancer needs them longer than 5 seconds; here it is shorter, which is sooner seen."""
    with (
        Serve(tmp_path, "--keep-alive", "100ms") as server,
        socket.create_connection(("127.0.0.1", server.port)) as idle,
    ):
        idle.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(1000)
        began = time.monotonic()
        while idle.recv(1000):  # the answer's body may come by itself
            pass
        assert time.monotonic() - began < 4.5  # and not after the default
