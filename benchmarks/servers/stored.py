"""A server that costs next to nothing: `python -m benchmarks.servers.stored PORT EVENTS BYTES`.

It answers every GET with the same events, which were encoded before: in HTTP chunks of 64 KB, as fast as the client
takes them. So the client is what is measured. After the last event the stream stays open, as a live one does.
"""

from __future__ import annotations

import socket
import socketserver
import sys

from newswire.wire import Event, encode

_CHUNK = 65536
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_READY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class _Handler(socketserver.BaseRequestHandler):
    answer: bytes
    request: socket.socket

    def handle(self) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked:
            if not (data := self.request.recv(65536)):
                return
            asked += data
        try:
            self.request.sendall(_READY if asked.startswith(b"GET /stats ") else self.answer)
            self.request.recv(1)  # until the client has enough
        except OSError:
            pass


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def main(port: int, events: int, size: int) -> None:
    """Serve until the process is killed."""
    data = (f"{number:07d} ".ljust(size, "x") for number in range(events))
    body = b"".join(encode(Event(text, id=f"bench.{number}")) for number, text in enumerate(data))
    chunks = (body[at : at + _CHUNK] for at in range(0, len(body), _CHUNK))
    _Handler.answer = _HEAD + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    with _Server(("127.0.0.1", port), _Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
