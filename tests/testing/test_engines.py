"""The servers that tests of logs need: they start, answer, survive what tests do to them, and end with their test."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.fixtures.engines import ENGINES, PATIENCE, Server, Valkey
from tests.fixtures.tcp_proxy import TcpProxy

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENGINES)
def test_a_server_can_be_stopped_killed_and_frozen(kind: type[Server]) -> None:
    """It answers after each start, on the same port, and leaves no process and no file."""
    if not kind.is_installed() and not os.environ.get("CI"):
        pytest.skip(f"{kind.wheel} is not installed: run `make setup`")
    with kind() as server:
        assert server.answers()
        server.kill()
        assert not server.answers()
        server.start()
        server.pause()
        server.resume()
        assert server.answers()
        server.stop()
        server.start()
        assert server.answers()
        processes = server._tree()
    assert not server.folder.exists()
    psutil.wait_procs(processes, PATIENCE)
    assert not any(process.is_running() for process in processes)


@pytest.mark.slow
def test_a_server_ends_with_a_test_process_that_is_killed() -> None:
    """Also by `kill -9`."""
    program = """
from tests.fixtures.engines import Valkey
with Valkey() as server:
    print(server.process.pid, server.folder, flush=True)
    input()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        server = psutil.Process(int(pid))
        process.send_signal(signal.SIGKILL)
        process.wait()
    server.wait(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while Path(folder).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_session_servers(valkey: Valkey) -> None:
    """One server is shared by all tests of a session."""
    assert valkey.ask("PING") == b"+PONG\r\n"
    assert valkey.ask("ECHO", "ünï") == "$5\r\nünï\r\n".encode()


@pytest.mark.slow
def test_a_proxy_makes_trouble(valkey: Valkey) -> None:
    """It passes on, cuts connections, swallows an answer to a request that was served, refuses, and holds back."""

    def connect() -> socket.socket:
        return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE)

    def is_cut(connection: socket.socket) -> bool:
        try:
            return connection.recv(100) == b""
        except ConnectionError:
            return True

    with TcpProxy(valkey.port) as proxy:
        with connect() as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(100) == b"+PONG\r\n"
            assert proxy.cut() == 1
            assert is_cut(connection)
        proxy.cut_answers = 1
        with connect() as connection:
            connection.sendall(b"INCR proxy-test\r\n")
            assert is_cut(connection)
        with connect() as connection:
            connection.sendall(b"GETDEL proxy-test\r\n")
            assert connection.recv(100) == b"$1\r\n1\r\n"
        proxy.refusing = True
        with contextlib.suppress(ConnectionError), connect() as connection:
            assert is_cut(connection)
        proxy.refusing, proxy.frozen = False, True
        with connect() as connection:
            connection.sendall(b"PING\r\n")
            connection.settimeout(0.05)
            with pytest.raises(TimeoutError):
                connection.recv(100)
            proxy.frozen, proxy.delay = False, 0.01
            connection.settimeout(PATIENCE)
            assert connection.recv(100) == b"+PONG\r\n"
        assert proxy.connections >= 5
