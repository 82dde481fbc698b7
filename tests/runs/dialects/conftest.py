"""A real HTTP server that answers with the streams it was given, in chunks cut anywhere."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.node import node


class Streams:
    """Serves bytes at addresses of their own, whatever a request names below these."""

    def __init__(self) -> None:
        self._bodies: dict[str, tuple[bytes, dict[str, str]]] = {}
        bodies = self._bodies

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                length = int(self.headers.get("content-length", 0))
                self.rfile.read(length)
                key = self.path.split("/")[1]
                body, headers = bodies[key]
                self.send_response(200)
                for name, value in {"content-type": "text/event-stream; charset=utf-8", **headers}.items():
                    self.send_header(name, value)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                choose = random.Random(key)
                while body:
                    size = choose.choice([1, 2, 7, 60, 300, 2000])
                    chunk, body = body[:size], body[size:]
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                self.wfile.write(b"0\r\n\r\n")

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                if not isinstance(sys.exception(), ConnectionError):  # a client may leave when it has read enough
                    super().handle_error(request, client_address)  # type: ignore[arg-type]

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def serve(self, body: bytes, headers: dict[str, str] | None = None) -> str:
        """Serve these bytes; returns the address."""
        key = str(len(self._bodies))
        self._bodies[key] = body, headers or {}
        return f"{self.url}/{key}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def run_node(script: str, urls: Sequence[str]) -> Any:
    """Have a script beside this file read these addresses; returns what it prints, which is JSON."""
    path = Path(__file__).with_name(script)
    done = subprocess.run([node(), str(path)], input=json.dumps(urls), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def streams() -> Iterator[Streams]:
    """A server for the module."""
    streams = Streams()
    yield streams
    streams.close()
