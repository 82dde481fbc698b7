"""A signal that comes while a command starts ends it, whatever Python is doing in that moment."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.fixtures.serve import PATIENCE, clean_environment
from uvicorn import Config

from newswire.cli import launch

# Runs a command, and sends it a signal from within the nth call of a function after `launch` has begun. `cb` is the
# import system's own callback, called for each module: Python drops whatever is raised in it.
_PROGRAM = """
import os, sys
import newswire.cli.launch as launch

where, nth, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sys.argv = ["newswire", *sys.argv[4:]]

def profile(frame, event, argument):
    global nth
    if event == "call" and frame.f_code.co_name == where:
        nth -= 1
        if nth == 0:
            sys.setprofile(None)
            os.kill(os.getpid(), number)
            print("SENT", file=sys.stderr, flush=True)

def begin(allow=launch.posix.allow_many_files):
    sys.setprofile(profile)
    allow()

launch.posix.allow_many_files = begin
from newswire.cli.main import main
main()
"""
_COMMANDS = {
    "serve": ["serve", "--log", "memory://", "--port", "0"],
    "relay": ["relay", "--upstream", "https://api.example.org", "--log", "memory://", "--port", "0"],
    "run": ["run", "application:app", "--port", "0"],
}
_MOMENTS = [("cb", 1), ("cb", 8), ("load", 1), ("capture_signals", 1), ("startup", 1), ("main_loop", 1)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "where", "nth"),
    [("serve", where, nth) for where, nth in _MOMENTS] + [("relay", "cb", 2), ("run", "cb", 2)],
)
def test_a_signal_is_heard_at_each_moment_of_the_start(
    tmp_path: Path, command: str, where: str, nth: int, number: signal.Signals
) -> None:
    """One signal is enough, also where Python swallows what its handler raises."""
    (tmp_path / "application.py").write_text("async def app(scope, receive, send): ...")
    arguments = [sys.executable, "-c", _PROGRAM, where, str(nth), str(int(number)), *_COMMANDS[command]]
    ended = subprocess.run(
        arguments, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, env=clean_environment(), check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


# Runs a command, and sends it a signal before a module is imported for the first time. A server that was not ended
# by it reads its settings again, and is then stopped.
_IMPORTING = """
import logging, os, signal, sys

module, number = sys.argv[1], int(sys.argv[2])
sys.argv = ["newswire", *sys.argv[3:]]

class Sender:
    def find_spec(name, path, target=None):
        if name == module:
            sys.meta_path.remove(Sender)
            os.kill(os.getpid(), number)

class Stopper(logging.Handler):
    def emit(self, record):
        if "read the settings" in record.getMessage():
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Sender)
from newswire.cli.main import main
logging.getLogger("newswire.server").addFilter(Stopper().handle)
main()
"""
_MODULES = ["click", "newswire.cli.launch", "newswire.log.sqlite.engine"]


@pytest.mark.parametrize("module", _MODULES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_heard_while_a_server_is_imported(tmp_path: Path, module: str, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end it in order, and SIGHUP has it read its settings once it can."""
    ended = subprocess.run(
        [sys.executable, "-c", _IMPORTING, module, str(int(number)), "serve", "--port", "0"],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, env=clean_environment(), check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ("read the settings" in ended.stderr) == (number == signal.SIGHUP)


@pytest.mark.parametrize("module", ["click", "newswire.cli.launch"])
@pytest.mark.parametrize("command", ["relay", "run"])
def test_a_hangup_while_a_command_without_settings_is_imported(tmp_path: Path, command: str, module: str) -> None:
    """It ends in order, as it does later: it has nothing to read again."""
    (tmp_path / "application.py").write_text("async def app(scope, receive, send): ...")
    ended = subprocess.run(
        [sys.executable, "-c", _IMPORTING, module, str(int(signal.SIGHUP)), *_COMMANDS[command]],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, env=clean_environment(), check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["relay", "run"])
def test_nohup(command: str) -> None:
    """Such a command goes on ignoring the signal."""
    program = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from newswire.cli import early
early.hear()
early.end_on_hangup()
assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
"""
    subprocess.run([sys.executable, "-c", program, command], timeout=PATIENCE, check=True)


def test_the_collector_looks_at_what_runs_and_at_no_module(tmp_path: Path) -> None:
    """It is on while a command runs, and leaves the modules alone when Python ends."""
    program = """
import atexit, gc
import newswire.cli.main as command

def ends():
    print(gc.get_freeze_count() > 10_000)

atexit.register(ends)
command.newswire.get_command(None, "token").callback = lambda **values: print(gc.isenabled())
command.main()
"""
    arguments = [sys.executable, "-c", program, "token", "--jwt-secret", "s" * 32, "--publish", "news"]
    ended = subprocess.run(
        arguments, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, env=clean_environment(), check=False
    )
    assert ended.stdout.split() == ["True", "True"], ended.stderr


def test_a_server_loads_no_library_for_websockets(tmp_path: Path) -> None:
    """Until a client asks for one, which is refused."""
    program = """
import socket, sys, threading
import newswire.cli.launch as launch

HEAD = "GET / HTTP/1.1\\r\\nHost: localhost\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
KEY = "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n"
before = launch._Server.startup

async def startup(self, sockets):
    await before(self, sockets)
    print(not {"websockets", "wsproto"} & set(sys.modules))
    threading.Thread(target=ask, args=(self, sockets[0].getsockname())).start()

def ask(server, address):
    with socket.create_connection(address) as connection:
        connection.sendall((HEAD + KEY).encode())
        print(connection.recv(1000).split()[1].decode())
    server.should_exit = True

launch._Server.startup = startup
from newswire.cli.main import main
main()
"""
    command = [sys.executable, "-c", program, "serve", "--log", "memory://", "--port", "0"]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, env=clean_environment(), check=False
    )
    assert ended.stdout.split() == ["True", "403"], ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_worker_that_died_is_not_waited_for() -> None:
    """The supervisor asks its workers whether they live, and one that dies meanwhile keeps it from nothing."""
    worker = launch._Worker(Config("nowhere:app", workers=2), [])
    worker.start()
    worker.process.kill()
    worker.process.join()
    assert not worker.ping(timeout=600)
    worker.parent_conn.close()


@pytest.mark.parametrize(
    ("status", "hung", "says"),
    [(-9, False, "was killed by SIGKILL"), (1, False, "ended with status 1"), (-9, True, "has not answered for 15 s")],
)
def test_a_worker_that_ended_is_logged(status: int, hung: bool, says: str) -> None:
    """Its streams broke: the operator has to know, and why."""
    worker = SimpleNamespace(exitcode=status, hung=hung, config=SimpleNamespace(timeout_worker_healthcheck=15))
    assert launch._how_it_ended(worker).startswith(says)
