"""A server that misbehaves by script, on real sockets: what a client has to survive.

    with BadServer([Answer(b"data: a\\n\\n", end="reset"), Answer(status=503), Answer(b"data: b\\n\\n")]) as server:
        EventSource(server.url)

The n-th request gets the n-th answer, and the last one again and again after that. It runs in threads of its own, so
sync and async clients can talk to it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from newswire.testing.sockets import SocketServer, reset

End = Literal["close", "reset", "hang"]
Script = Sequence["Answer"] | Callable[["Seen"], "Answer"]


@dataclass(frozen=True)
class Seen:
    """A request that came.

    Attributes:
        method, target: of its request line.
        headers: names in lower case, values as their bytes.
        body: all of it.
    """

    method: str
    target: str
    headers: dict[str, bytes]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What a request gets.

    Args:
        body: the pieces of the body, each written by itself; or all of it at once.
        status: 0 sends no head at all.
        headers: added to the head; a `content-type` replaces that of event streams.
        end: then `close` the connection in order, `reset` it, or leave it open and silent (`hang`), as a peer does
            that lost its network.
        pace: seconds between two pieces.
        chunked: use chunked coding, whose end differs from a cut. `close` ends it properly, `reset` does not.
    """

    body: bytes | Sequence[bytes] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    end: End = "close"
    pace: float = 0.0
    chunked: bool = False


def every_byte(data: bytes) -> list[bytes]:
    """`data` in pieces of one byte: every character and every CRLF is cut."""
    return [data[n : n + 1] for n in range(len(data))]


class BadServer(SocketServer):
    """A server on a free port of 127.0.0.1, from `with` to its end.

    Args:
        script: the answers in order, or a function from a request to its answer.

    Attributes:
        requests: what came, in order.
    """

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script
        self.requests: list[Seen] = []

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT/events`."""
        return f"http://127.0.0.1:{self.port}/events"

    def _serve(self, peer: socket.socket, number: int) -> None:
        """Answer one request, by the order in which requests came."""
        request = _read_request(peer)
        if request is None:
            return
        with self._lock:
            self.requests.append(request)
            number = len(self.requests) - 1
        script = self._script
        self._answer(peer, script(request) if callable(script) else script[min(number, len(script) - 1)])

    def _answer(self, peer: socket.socket, answer: Answer) -> None:
        pieces = [answer.body] if isinstance(answer.body, bytes) else answer.body
        if answer.status:
            peer.sendall(_head(answer))
        for piece in pieces:
            if piece:
                peer.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece)
            if answer.pace and self._stopping.wait(answer.pace):
                return
        if answer.end == "close" and answer.chunked:
            peer.sendall(b"0\r\n\r\n")
        elif answer.end == "reset":
            reset(peer)
        elif answer.end == "hang":
            while not self._stopping.is_set() and peer.recv(4096):
                pass


def _head(answer: Answer) -> bytes:
    fields = {"content-type": "text/event-stream", "connection": "close", **answer.headers}
    if answer.chunked:
        fields["transfer-encoding"] = "chunked"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {answer.status} Scripted\r\n{lines}\r\n".encode()


def _read_request(peer: socket.socket) -> Seen | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = peer.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.decode("latin-1").split(" ", 2)
    headers: dict[str, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.decode("latin-1").lower()] = value.strip()
    length = int(headers.get("content-length", b"0"))
    while len(body) < length and (more := peer.recv(65536)):
        body += more
    return Seen(method, target, headers, body)
