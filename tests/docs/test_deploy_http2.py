"""HTTP/2 with TLS to a browser: through nginx and Caddy as docs/deploy has them, and from servers that speak it.

Each test is a column of the table at the end of a test run, and each way a row.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import httpx2
import pytest
from tests.browser.conftest import Page
from tests.fixtures.asgi_servers import running
from tests.fixtures.proxies import HOST, Caddy, Nginx, Proxy, make_certificate
from tests.fixtures.serve import PATIENCE, Serve

pytestmark = pytest.mark.slow
PROXIES: Final[Mapping[str, type[Proxy]]] = {"nginx": Nginx, "caddy": Caddy}
# What makes a server speak HTTPS: the flags for the certificate and for its key.
SERVERS: Final = {
    "hypercorn": ("--certfile", "--keyfile"),
    "granian": ("--ssl-certificate", "--ssl-keyfile"),
}
EVENTS: Final = 20
FLAGS: Final = ("--retry", "500", "--log", "sqlite:///newswire.db", "--allowed-host", HOST)


@dataclass
class Way:
    """What a browser talks to.

    Attributes:
        url: its origin.
        page: the path of something small.
        stream: the path of the channel `news`.
        publish: publishes an event there.
        stop: asks all servers to end (SIGTERM), and waits until they have; they must end in order.
    """

    url: str
    page: str
    stream: str
    publish: Callable[[str], object]
    stop: Callable[[], None]


@pytest.fixture(params=[*PROXIES, *SERVERS])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    """Each of them."""
    with contextlib.ExitStack() as stack:
        if request.param in PROXIES:
            servers = [stack.enter_context(Serve(tmp_path, "--heartbeat", "1", *FLAGS)) for _ in range(2)]
            proxy = stack.enter_context(PROXIES[request.param](*(server.port for server in servers)))

            def stop_all() -> None:
                assert [server.stop() for server in servers] == [0, 0]

            http = stack.enter_context(
                httpx2.Client(base_url=servers[0].url, timeout=PATIENCE)
            )  # to make one takes long

            def publish(data: str) -> None:
                assert http.post("/channels/news", content=data).status_code == 200

            yield Way(proxy.url, "/health/live", "/channels/news", publish, stop_all)
        else:
            certificate, key = map(str, make_certificate(tmp_path, "localhost"))
            flags = SERVERS[request.param]
            server = stack.enter_context(running(request.param, flags[0], certificate, flags[1], key))

            def stop_one() -> None:
                server.stop()
                assert server.process.returncode == 0

            yield Way(f"https://localhost:{server.port}", "/stats", "/events", server.publish, stop_one)


OPEN = """Promise.all(Array.from({ length: 20 }, () => new Promise((done) => {
  globalThis.delays = [];
  globalThis.goodbyes = 0;
  const source = new EventSource(PATH);
  source.onopen = done;
  source.onmessage = ({ data }) => delays.push(Date.now() - Number(data));
  source.addEventListener("newswire.goodbye", () => { goodbyes += 1; source.close(); });
}))).then(() => performance.getEntriesByType("navigation")[0].nextHopProtocol)"""


@pytest.mark.browser
def test_chromium_opens_20_streams(way: Way, record_property: Callable[[str, object], None]) -> None:
    """On one origin, where HTTP/1.1 would stop at six; each event comes at once; and at a SIGTERM all say goodbye."""
    with contextlib.closing(Page()) as page:
        page.order(goto=way.url + way.page)
        assert page.evaluate(OPEN.replace("PATH", f"'{way.stream}'")) == "h2"
        for number in range(EVENTS):
            way.publish(str(round(time.time() * 1000)))
            page.until(f"delays.length === {20 * (number + 1)}")
        delays = page.evaluate("delays")
        figure = f"{median(delays):.0f} ms, at most {max(delays)}"
        record_property("shown", figure)
        # On a quiet machine it is a few milliseconds. What this finds is a buffer, which has its events for ever.
        assert median(delays) < 5000, figure
        way.stop()
        page.until("goodbyes === 20")


def heartbeats_pass(kind: str, seconds: int, heartbeat: str, folder: Path) -> None:
    """A silent stream with heartbeats outlives a proxy's idle time-out, and goes on; without them it ends by then.

    Args:
        kind: of the proxy.
        seconds: the time-out.
        heartbeat: of the server.
        folder: for the server's files.
    """
    replace = {
        "nginx": [("proxy_read_timeout 60s", f"proxy_read_timeout {seconds}s")],
        # Caddy has no such time-out by itself.
        "caddy": [
            ("flush_interval -1", f"flush_interval -1\n\t\ttransport http {{\n\t\t\tread_timeout {seconds}s\n\t\t}}")
        ],
    }[kind]
    with contextlib.ExitStack() as stack:
        answers = []
        for flag in (heartbeat, "none"):
            server = stack.enter_context(Serve(folder, "--heartbeat", flag, *FLAGS))
            proxy = stack.enter_context(PROXIES[kind](server.port, replace=replace))
            client = stack.enter_context(httpx2.Client(http2=True, verify=proxy.trust, timeout=4 * PATIENCE))
            answers.append(stack.enter_context(client.stream("GET", f"{proxy.url}/channels/quiet")))
        alive, silent = (answer.iter_text() for answer in answers)
        with contextlib.suppress(httpx2.RemoteProtocolError):
            assert all(":\n" not in text for text in silent)  # until the proxy has ended it
        server.publish("quiet", "still there")
        seen = ""
        while "data: still there\n" not in seen:
            seen += next(alive)
        assert seen.count(":\n") >= 2
        assert "goodbye" not in seen


@pytest.mark.parametrize("kind", PROXIES)
def test_heartbeats_pass_an_idle_timeout(kind: str, tmp_path: Path) -> None:
    """Of four seconds."""
    heartbeats_pass(kind, 4, "1", tmp_path)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kinds", [" and ".join(PROXIES)])
def test_heartbeats_pass_60_seconds(kinds: str, tmp_path: Path) -> None:
    """With the heartbeat of 15 seconds that a server has by itself; all proxies in the same minute."""
    with ThreadPoolExecutor() as threads:
        waiting = []
        for kind in kinds.split(" and "):
            (tmp_path / kind).mkdir()
            waiting.append(threads.submit(heartbeats_pass, kind, 60, "15s", tmp_path / kind))
        for each in waiting:
            each.result()
