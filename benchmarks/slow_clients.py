"""Clients that take so many bytes a second: how stale is what they read? Run by `benchmarks.state` as a process.

    python -m benchmarks.slow_clients PORT COUNT BYTES_A_SECOND

Says `ready` when all have their stream. At the end of its input it prints what they saw, as JSON. An event is stale if
a newer one of its key was published before it was read; its staleness is how long before. One more connection, which
takes all, knows what was published when. What a client may be behind is what its connection holds: the bytes in the
kernel's buffers of both ends, which it reads at its rate. The most of any client, once a second, is `allowed` seconds.
"""

from __future__ import annotations

import json
import random
import re
import select
import socket
import sys
import time
from bisect import bisect_right
from pathlib import Path
from typing import Any

_EVENT = re.compile(rb"channel: (\S+)\ndata: t=(\d{19})")
_BUFFER = 4096
_TURN = 0.1  # seconds


class Client:
    """One connection.

    Attributes:
        events: pairs of key and stamp, not yet looked at.
    """

    def __init__(self, port: int, path: str, *, buffer: int | None) -> None:
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        self._data = b""

    def read(self, most: int) -> list[tuple[bytes, int]]:
        """Take what is there, at most so many bytes. Returns the events in it."""
        try:
            self._data += self.socket.recv(most, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        found, end = [], 0
        for match in _EVENT.finditer(self._data):
            found.append((match[1], int(match[2])))
            end = match.end()
        self._data = self._data[end:][-4096:]
        return found


def main() -> None:
    """Read until the input ends."""
    port, count, rate = (int(each) for each in sys.argv[1:4])
    everything = Client(port, "/state", buffer=None)
    # Every other one begins with the state of all keys; the others with what changes, which is more than they take.
    paths = ("/state", "/state?from=latest")
    clients = [Client(port, paths[number % 2], buffer=_BUFFER) for number in range(count)]
    print("ready", flush=True)
    stamps: dict[bytes, list[int]] = {}
    read: list[tuple[int, bytes, int]] = []
    turn, share = time.monotonic(), max(1, int(rate * _TURN))
    held, asked = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], 0)[0]:
        if time.monotonic() > asked:
            held = max(held, most_held(port, {client.socket.getsockname()[1] for client in clients}))
            asked = time.monotonic() + 1
        while events := everything.read(2**20):
            for key, stamp in events:
                stamps.setdefault(key, []).append(stamp)
        random.shuffle(clients)
        now = time.monotonic_ns()
        for client in clients:
            read += [(now, key, stamp) for key, stamp in client.read(share)]
        turn += _TURN
        time.sleep(max(0.0, turn - time.monotonic()))
    print(json.dumps({**_summary(stamps, read), "allowed": held / rate}), flush=True)


def most_held(port: int, clients: set[int]) -> int:
    """The most bytes that are on their way to one of the clients, which these ports are of: sent and not yet read."""
    held: dict[int, int] = {}
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        here, there = (int(address.rpartition(":")[2], 16) for address in (local, remote))
        sending, unread = (int(queue, 16) for queue in queues.split(":"))
        if there == port and here in clients:
            held[here] = held.get(here, 0) + unread
        elif here == port and there in clients:
            held[there] = held.get(there, 0) + sending
    return max(held.values(), default=0)


def _summary(stamps: dict[bytes, list[int]], read: list[tuple[int, bytes, int]]) -> dict[str, Any]:
    stale = []
    for now, key, stamp in read:
        known = stamps.get(key, [])
        place = bisect_right(known, stamp)
        stale.append(max(0, now - known[place]) / 1e9 if place < len(known) else 0.0)
    stale.sort()
    half = sorted(each for each in stale[len(stale) // 2 :])
    return {
        "events": len(stale),
        "stale": sum(each > 0 for each in stale),
        "p99": stale[int(0.99 * (len(stale) - 1))] if stale else 0.0,
        "worst": half[-1] if half else 0.0,
    }


if __name__ == "__main__":
    main()
