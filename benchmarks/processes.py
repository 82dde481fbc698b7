"""The processes of a benchmark: servers under test, each on one core, and the load on another.

A benchmark enters them as context managers, and they are gone when it leaves, however it leaves: the kernel ends
them even if the benchmark itself is killed. All listen on 127.0.0.1 only.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.fixtures.ports import free_port

from benchmarks.build import built

ROOT: Final = Path(__file__).parent.parent
_START_TIMEOUT: Final = 20.0  # seconds for a server to answer
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Failed(RuntimeError):
    """A process of the benchmark did not do its part; the message holds its last words."""


def cores() -> tuple[int, int]:
    """The core for servers and the one for the load: the same one if there is no other."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[1 % len(allowed)]


def _prepare(core: int) -> Callable[[], None]:
    """What a child does before it becomes the program: its core, enough descriptors, and no life without us."""
    parent = os.getpid()

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return prepare


class Process:
    """A child on one core, what it costs, and its last words if it fails."""

    def __init__(self, command: Sequence[str], *, core: int, env: Mapping[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `stop`
        self._command = command
        self.popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            preexec_fn=_prepare(core),
        )

    def cpu(self) -> float:
        """Seconds of CPU that it has used, user and system, all threads."""
        # The kernel's clock of another process (clock_getcpuclockid), in nanoseconds where /proc counts ticks of 10 ms.
        return time.clock_gettime((~self.popen.pid << 3) | 2)

    def rss(self) -> int:
        """Resident memory, in bytes."""
        return self._status("VmRSS")

    def peak_rss(self) -> int:
        """The most resident memory it ever had, in bytes."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise self.failed(f"there is no {name} of a process that is gone")

    def failed(self, what: str) -> Failed:
        """The error to raise, with the process's last words."""
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()[-2000:]
        return Failed(f"{' '.join(self._command)}: {what}\n{words}")

    def stop(self) -> None:
        """End it by force: what a server does at the end is not measured here."""
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Server(Process):
    """A server under test; see `benchmarks.servers` for what it answers.

    Args:
        command: how to start it; `{port}` in it is replaced by a free one.
        env: more of the environment.
        ready: the path that it answers with JSON once it is there.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str] | None = None, ready: str = "/stats") -> None:
        self.port = free_port()
        command = [part.replace("{port}", str(self.port)) for part in command]
        super().__init__(command, core=cores()[0], env=env)
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                self.get(ready)
                return
            except OSError:
                if self.popen.poll() is not None or time.monotonic() > deadline:
                    failed = self.failed("does not answer")
                    self.stop()
                    raise failed from None
                time.sleep(0.02)

    def get(self, path: str) -> dict[str, Any]:
        """Ask for JSON."""
        answer: dict[str, Any] = json.loads(self.text(path))
        return answer

    def text(self, path: str) -> str:
        """Ask for text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise self.failed(f"GET {path} gave {response.status}: {body[:300]!r}")
            return body.decode()
        finally:
            connection.close()

    def until(self, what: str, is_so: Callable[[dict[str, Any]], bool], timeout: float = 60) -> dict[str, Any]:
        """Wait until the server's /stats satisfy `is_so`."""
        deadline = time.monotonic() + timeout
        while not is_so(stats := self.get("/stats")):
            if time.monotonic() > deadline:
                raise self.failed(f"waited {timeout:.0f} s for {what}: {stats}")
            time.sleep(0.05)
        return stats


class Load(Process):
    """The load generator; `load.c` says what its numbers mean."""

    def __init__(self, port: int, count: int, **options: str | int) -> None:
        self.count = count
        arguments = [part for name, value in options.items() for part in (_FLAGS[name], str(value))]
        super().__init__([str(built("load")), "-p", str(port), "-n", str(count), *arguments], core=cores()[1])
        self._buffer = b""

    def ready(self, timeout: float = 120) -> float:
        """Wait until every connection has its response's head. Returns the seconds it took."""
        return float(self._answer(timeout)["seconds"])

    def reset(self) -> None:
        """Forget all counts."""
        self._say("reset")
        self._answer(60)

    def wait(self, events: int, timeout: float) -> dict[str, Any]:
        """Wait until `events` were counted since the last reset, or for `timeout` seconds. Returns the counts."""
        self._say(f"wait {events} {timeout * 1000:.0f}")
        return self._answer(timeout + 60)

    def _say(self, line: str) -> None:
        assert self.popen.stdin is not None
        try:
            self.popen.stdin.write(line.encode() + b"\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            raise self.failed("ended too early") from None

    def _answer(self, timeout: float) -> dict[str, Any]:
        assert self.popen.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.popen.stdout], [], [], left)[0]:
                raise self.failed(f"said nothing for {timeout:.0f} s")
            more = os.read(self.popen.stdout.fileno(), 65536)
            if not more:
                self.popen.wait()
                raise self.failed("ended too early")
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer


_FLAGS: Final = {
    "path": "-u",
    "first": "-f",
    "modulo": "-m",
    "header": "-H",
    "at_once": "-a",
    "stuck": "-s",
    "compressed": "-z",
}


@contextlib.contextmanager
def serving(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server for as long as the context lasts. `{port}` in its command becomes its port."""
    server = Server(command, env=env)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def loading(server: Server, count: int, *, port: int | None = None, **options: str | int) -> Iterator[Load]:
    """Clients of `server`, or of the proxy at `port`, for as long as the context lasts; options: see `_FLAGS`."""
    load = Load(port or server.port, count, **options)
    try:
        yield load
    finally:
        load.stop()


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` in this Python."""
    return [sys.executable, "-m", module, *arguments]
