"""newswire without what only POSIX systems have: `NEWSWIRE_POSIX=off` leaves it out on any system."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.serve import Serve

ROOT = Path(__file__).parents[1]
OFF = {"NEWSWIRE_POSIX": "off"}

# The wire, the logs of the standard library, the hub, delivery and the server's application.
SUITE = (
    *("tests/wire/test_decoder.py", "tests/log/test_memory.py", "tests/log/test_sqlite.py"),
    *("tests/log/test_sqlite_retention.py", "tests/log/test_sqlite_wal.py", "tests/hub/test_hub.py"),
    *("tests/delivery/test_stream.py", "tests/server/test_app.py"),
)

# What not every system has, or which system it is.
ONLY_SOME = {
    *(
        "fcntl",
        "resource",
        "pwd",
        "grp",
        "termios",
        "platform",
        "register_at_fork",
        "fork",
        "fchmod",
        "pread",
        "pwrite",
        "eventfd",
    ),
    *("getuid", "SIGHUP", "AF_UNIX", "O_CLOEXEC", "add_signal_handler", "add_reader"),
}


def names_in(path: Path) -> Iterator[str]:
    """What a module imports, and the attributes that it uses, with the object before them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "posix"):
            yield node.attr


@pytest.mark.slow
def test_one_module_knows_which_system_it_is() -> None:
    """All others ask `newswire.posix`."""
    paths = [path for path in (ROOT / "src" / "newswire").rglob("*.py") if path.name != "posix.py"]
    assert {path.name: found for path in paths if (found := ONLY_SOME & set(names_in(path)))} == {}


@pytest.mark.slow
def test_the_fast_tests_pass_without(tmp_path: Path) -> None:
    """Those of the wire, the memory and SQLite logs, the hub, streams and the server."""
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-m",
        "not slow",
        f"--basetemp={tmp_path / 'of-tests'}",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *SUITE],
        cwd=ROOT,
        env=os.environ | OFF,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


@pytest.mark.slow
def test_a_server_without(tmp_path: Path) -> None:
    """It starts, stores, stops in order, and has its events after that; several workers too."""
    with Serve(tmp_path, environment=OFF) as server:
        first = server.publish("news", "one")
        assert server.stop() == 0
        server.start()
        assert server.stored("news") == ["one"]
        assert server.publish("news", "two").split("-")[0] == first.split("-")[0], "the log goes on"
    with Serve(tmp_path, "--workers", "2", environment=OFF) as server:
        assert server.stored("news") == ["one", "two"]
        server.publish("news", "three")
        assert server.stored("news") == ["one", "two", "three"]
        assert server.stop() == 0


PROGRAM = """
import asyncio, os, signal
from newswire import posix

async def main():
    called = asyncio.Event()
    posix.on_signals(asyncio.get_running_loop(), [signal.SIGINT, signal.SIGTERM], called.set)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(called.wait(), 30)

asyncio.run(main())
with open("file", "w+b") as file:
    posix.pwrite(file.fileno(), b"over", 0)
    posix.pwrite(file.fileno(), b"at", 2)
    posix.fchmod(file.fileno(), 0o600)
    print(posix.pread(file.fileno(), 3, 1), posix.HANGUP is None, posix.LINUX)
    try:
        posix.flock(file.fileno())
        print("locked")
    except OSError:
        print("no locks")
posix.allow_many_files()
posix.at_fork(after_in_child=print)
"""


@pytest.mark.parametrize(("off", "says"), [({}, "locked"), (OFF, "no locks")], ids=["with", "without"])
def test_each_part(tmp_path: Path, off: dict[str, str], says: str) -> None:
    """Signals reach the loop, and bytes their place in a file, with and without; locks are missed openly."""
    environment = {name: value for name, value in os.environ.items() if name != "NEWSWIRE_POSIX"} | off
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("b'vat'")
    assert first.endswith("True False") == bool(off)
    assert second == says


THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from newswire import posix

sys.setswitchinterval(1e-6)
with open("file", "w+b", buffering=0) as file, ThreadPoolExecutor(4) as threads:
    file.write(b"abcd")
    wrong = threads.map(lambda place: sum(
        posix.pread(file.fileno(), 1, place) != b"abcd"[place:place + 1] for _ in range(2000)
    ), range(4))
    print(sum(wrong))
"""


@pytest.mark.parametrize("off", [{}, OFF], ids=["with", "without"])
def test_threads_read_one_file_at_places_of_their_own(tmp_path: Path, off: dict[str, str]) -> None:
    """Without the system's call too: a SQLite log looks at its write-ahead log from two threads."""
    environment = {name: value for name, value in os.environ.items() if name != "NEWSWIRE_POSIX"} | off
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0\n"
