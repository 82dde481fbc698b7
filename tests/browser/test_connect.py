"""The JavaScript client in Chromium: what `/newswire.js` makes of a real server, and of everything that goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from typing import Any

import httpx2
import pytest

from newswire.browser import FILES

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

LOAD = "import('/newswire.js').then((loaded) => { globalThis.newswire = loaded; return Object.keys(loaded).sort(); })"
CONNECT = """void (() => {
  globalThis.events = []; globalThis.told = [];
  const note = (what) => (value, more) => told.push([what, value?.message ?? value?.id ?? null, more ?? null]);
  globalThis.source = newswire.connect(%s, {
    onOpen: ({ reconnected }) => told.push(["open", reconnected, null]),
    onError: (error, wait) => told.push(["error", error.code, wait === null, error.status]),
    onGap: note("gap"), onGoodbye: note("goodbye"), onEnd: note("end"), onCaughtUp: note("live"),
    ...%s,
  });
  source.on("*", (event) => events.push(event));
})()"""


def connect(page: Any, url: str, options: str = "{}") -> None:
    """Connect, and collect events in `events` and all callbacks in `told`."""
    page.evaluate(CONNECT % (json.dumps(url), options))


def test_a_stream_outlives_its_server(server: Any, page: Any) -> None:
    """Data is parsed; kill -9, events meanwhile, start: each event once, in order."""
    page.order(goto=f"{server.url}/health/live")
    assert "connect" in page.evaluate(LOAD)
    connect(page, "/channels/news?from=earliest")
    page.until("source.state === 'open'")
    ids = [server.publish(json.dumps({"n": number})) for number in range(5)]
    page.until("events.length === 5")
    server.kill()
    page.until("told.some(([what]) => what === 'error')")
    assert page.evaluate("source.state") == "connecting"
    server.start()
    ids += [server.publish(json.dumps({"n": number})) for number in range(5, 10)]
    page.until("events.length >= 10")
    assert page.evaluate("events.map((e) => [e.event, e.data.n, e.id, e.channel])") == [
        ["message", number, id, None] for number, id in enumerate(ids)
    ]
    assert page.evaluate("told.filter(([what]) => what === 'open')") == [["open", False, None], ["open", True, None]]
    page.evaluate("source.close()")
    assert page.evaluate("source.state") == "closed"


@pytest.mark.slow
def test_a_server_that_hangs_is_noticed(server: Any, page: Any) -> None:
    """A stopped process sends no heartbeat and closes nothing: the error says so, and the stream goes on afterwards."""
    page.order(goto=f"{server.url}/health/live")
    page.evaluate(LOAD)
    connect(page, "/channels/news")
    page.until("source.state === 'open'")
    server.process.send_signal(signal.SIGSTOP)
    page.until("told.some(([what]) => what === 'error')")
    server.process.send_signal(signal.SIGCONT)
    assert page.evaluate("told.find(([what]) => what === 'error')") == ["error", "timeout", False, 0]
    page.until("source.state === 'open'")
    server.publish("1")
    page.until("events.length === 1")


TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}


def test_the_files_are_fresh_and_kept_by_browsers(server: Any) -> None:
    """`/newswire.js` and the look may be loaded by pages of any origin, and come again only when they have changed."""
    assert set(FILES) >= {"/newswire.js", "/newswire.css", "/newswire.svg", "/newswire-theme.js", "/newswire-chart.js"}
    for path in FILES:
        answer = httpx2.get(server.url + path)
        assert answer.headers["content-type"] == TYPES[path.rpartition(".")[2]]
        assert answer.headers["access-control-allow-origin"] == "*"
        again = httpx2.get(server.url + path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        head = httpx2.head(server.url + path)
        assert (head.headers["content-length"], head.content) == (str(len(answer.content)), b"")
        refused = httpx2.post(server.url + path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


class Front:
    """A proxy in front of a server, on a port that stays: it passes connections on, answers 502 or 503, or refuses."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._mode = "pass"
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._listen()

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def turn(self, mode: str) -> None:
        """`pass`, `502`, `503` or `refuse`; connections that are open break."""
        was, self._mode = self._mode, mode
        if was == "refuse":
            self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
            self._listen()
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if mode == "refuse":
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            if self._mode != "pass":
                client.recv(65536)
                client.sendall(
                    f"HTTP/1.1 {self._mode} Away\r\ncontent-length: 4\r\nconnection: close\r\n\r\naway".encode()
                )
                return
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                self._sockets |= {client, server}
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)
                back.join()
                self._sockets -= {client, server}

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
def test_an_outage_in_the_middle_loses_nothing(server: Any, page: Any) -> None:
    """502, 503 and refused connections, for 30 s with LONG in the environment: each event once, in order."""
    seconds = 30 if os.environ.get("LONG") else 1
    front = Front(server.port)
    page.order(goto=f"{front.url}/health/live")
    page.evaluate(LOAD)
    connect(page, "/channels/news?from=earliest", "{ backoff: { first: 100, cap: 1000 } }")
    ids = [server.publish("0")]
    page.until("events.length === 1")
    for mode in ("502", "503", "refuse"):
        front.turn(mode)
        page.until("source.state === 'connecting'")
        ids += [server.publish(str(len(ids))) for _ in range(3)]
        page.evaluate(f"new Promise((done) => setTimeout(done, {seconds * 1000}))")
        status = 0 if mode == "refuse" else int(mode)
        page.until(f"told.filter(([what, , , status]) => what === 'error' && status === {status}).length > 1")
        assert page.evaluate("source.state") == "connecting"
        front.turn("pass")
        page.until(f"events.length >= {len(ids)}", seconds=60)
        ids.append(server.publish(str(len(ids))))
        page.until(f"events.length >= {len(ids)}")
    assert page.evaluate("events.map((e) => e.id)") == ids
    assert all(told[0] in ("open", "error") for told in page.evaluate("told"))
