"""Gone means gone: 1,000 clients that vanish without a word give their slots and their memory back in time.

Where this machine lets us, they vanish as clients do: behind a network that drops their packets from one moment to the
next, so that no FIN and no RST comes. Everywhere, as a process that stands still with its windows full.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.fixtures.asgi_servers import Server, running
from tests.fixtures.network import Network, networks_can_be_made

COUNT = 1000
WRITE_TIMEOUT = 1.0
# What may come on top: a heartbeat that shows it, the kernel's timers, and a machine that does other things too.
SLACK = 8.0
CROWD = Path(__file__).with_name("crowd.py")
PATH = f"/events?heartbeat=0.5&write_timeout={WRITE_TIMEOUT}"


@contextlib.contextmanager
def crowd(host: str, port: int, *prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    """Clients whose streams have begun."""
    command = [*prefix, sys.executable, str(CROWD), host, str(port), str(COUNT), PATH]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def resident(server: Server) -> int:
    """The server's memory, in KiB."""
    return int(str(server.stats("/memory")["resident"]))


def check_round(server: Server, vanish: Callable[[], object], *, busy: bool) -> float:
    """Let them vanish, with more than heartbeats on its way or not. Returns how long the last slot was taken."""
    assert server.stats()["subscribers"] == COUNT
    vanish()
    began = time.monotonic()
    if busy:
        server.publish("x" * 50_000)
    server.until_subscribers(0, WRITE_TIMEOUT + SLACK)
    return time.monotonic() - began


def check_memory(rounds: list[int]) -> None:
    """What one crowd took was there for the next: the process doesn't grow from round to round."""
    assert rounds[-1] - rounds[0] < 4096, rounds


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT and network namespaces are Linux's")
@pytest.mark.parametrize("name", ["direct"])
def test_packets_that_are_dropped(name: str, record_property: pytest.RecordProperty) -> None:
    """The network goes; then the clients. Where no network can be made, they stand still; see below."""
    if not networks_can_be_made():
        test_a_process_that_stands_still(name)
        return
    network = Network()
    try:
        with running(name, "--host", "0.0.0.0") as server:
            sizes = []
            for busy in (True, False, True):
                with crowd(network.host, server.port, "ip", "netns", "exec", network.name) as process:

                    def vanish(process: subprocess.Popen[bytes] = process) -> None:
                        network.cut()
                        process.kill()  # its FINs go nowhere

                    took = check_round(server, vanish, busy=busy)
                    record_property("seconds until the last slot was free", took)
                    print(f"{took:.1f} s until the last of {COUNT} slots was free")
                network.mend()
                sizes.append(resident(server))
            check_memory(sizes)
    finally:
        network.remove()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["direct"])
def test_a_process_that_stands_still(name: str) -> None:
    """Its kernel acknowledges what comes until its windows are full; then the write time-out counts."""
    with running(name) as server:
        sizes = []
        for _ in range(3):
            with crowd("127.0.0.1", server.port) as process:
                check_round(server, partial(process.send_signal, signal.SIGSTOP), busy=True)
            sizes.append(resident(server))
        check_memory(sizes)
