"""A proxy that breaks connections, by seeded chance, in front of any real server.

    with ChaosProxy("127.0.0.1", 8000, faults=200, seed=7) as proxy:
        EventSource(f"{proxy.url}/channels/news")

Each connection suffers one fault; when all are used up, the proxy only forwards. It looks at TCP bytes and knows as
much of HTTP as it needs to find the end of a head.
"""

from __future__ import annotations

import random
import select
import socket
from collections import Counter
from typing import Final

from newswire.testing.sockets import SocketServer, reset

FAULTS: Final = (
    "refuse",  # closed before the request is read
    "deny",  # a 502, 503 or 429 that the server knows nothing of
    "head",  # cut inside the response's head
    "close",  # closed in order after some bytes of the body
    "reset",  # the same, with RST
    "character",  # cut inside a character of several bytes
    "cr",  # cut between CR and LF
    "slow",  # some bytes one by one, then cut
    "stall",  # open and silent for ever: a peer that lost its network
)
_DENIALS: Final = (
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<h1>502</h1>",
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\nconnection: close\r\n\r\n",
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n",
)


class ChaosProxy(SocketServer):
    """A TCP proxy on a free port of 127.0.0.1, from `with` to its end.

    Args:
        host, port: the real server.
        faults: how many connections suffer one.
        seed: of the random numbers; the n-th connection suffers the same in each run.
        kinds: the faults to draw from.
        reach: a fault strikes after at most this many bytes of the response.

    Attributes:
        suffered: how often each fault has struck.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        faults: int = 200,
        seed: int = 0,
        kinds: tuple[str, ...] = FAULTS,
        reach: int = 2000,
    ) -> None:
        super().__init__()
        self.suffered: Counter[str] = Counter()
        self._upstream = (host, port)
        draw = random.Random(seed)
        self._plan = [(draw.choice(kinds), draw.randrange(reach), draw.choice(_DENIALS)) for _ in range(faults)]

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def left(self) -> int:
        """How many faults are still to strike."""
        return max(0, len(self._plan) - self._count)

    def _serve(self, peer: socket.socket, number: int) -> None:
        """Forward one connection, with the fault that the plan has for its number."""
        kind, after, denial = self._plan[number] if number < len(self._plan) else ("", 0, b"")
        if kind:
            with self._lock:
                self.suffered[kind] += 1
        if kind == "refuse":
            return
        if kind == "deny":
            peer.recv(65536)
            peer.sendall(denial)
            return
        server = socket.create_connection(self._upstream)
        self._keep(server)
        try:
            self._relay(peer, server, kind, after)
        finally:
            self._drop(server)

    def _relay(self, client: socket.socket, server: socket.socket, kind: str, after: int) -> None:
        """Forward both ways until the fault strikes, or one side ends."""
        sent = 0
        if kind == "head":
            after %= 20
        stalled = False
        while not self._stopping.is_set():
            # A stalled connection takes nothing more from the server, but notices when the client gives up.
            ready, _, _ = select.select([client] if stalled else [client, server], [], [])
            if client in ready:
                data = client.recv(65536)
                if not data:
                    return
                server.sendall(data)
            if server in ready:
                data = server.recv(65536)
                if not data:
                    return
                cut = _cut(kind, data, after - sent)
                self._forward(client, data if cut is None else data[:cut], slow=kind == "slow")
                sent += len(data)
                if cut is not None:
                    if kind == "stall":
                        stalled = True
                        continue
                    if kind == "reset":
                        reset(client)
                    return

    def _forward(self, client: socket.socket, data: bytes, *, slow: bool) -> None:
        if not slow:
            client.sendall(data)
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for n in range(len(data)):
            client.sendall(data[n : n + 1])


def _cut(kind: str, data: bytes, after: int) -> int | None:
    """After how many bytes of `data` the fault strikes; None: not in here."""
    if not kind or after >= len(data):
        return None
    after = max(0, after)
    if kind == "cr":
        found = data.find(b"\r", after)
        return None if found < 0 else found + 1
    if kind == "character":
        for index in range(after, len(data)):
            if data[index] >= 0xC2:  # the first byte of a character of several
                return index + 1
        return None
    return after
