"""What still arrives through a real proxy that is set to hold back or to compress.

docs/deploy/nginx.md, "An nginx that buffers"; docs/deploy/caddy.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import httpx2
import pytest
from tests.fixtures.proxies import DEPLOY, HOST, Caddy, Nginx
from tests.fixtures.serve import PATIENCE, Serve

pytestmark = pytest.mark.slow
PADDING: Final = re.findall(r"--heartbeat-padding (\w+)", (DEPLOY / "nginx.md").read_text())[0]
SERVERS: Final = {
    "silent": ("--heartbeat", "none"),  # no byte after an event that would push it out
    "padded": ("--heartbeat", "1", "--heartbeat-padding", PADDING, "--compress"),
}
BUFFERS: Final = ("proxy_buffering off;.*", "proxy_buffering on;")
IGNORES: Final = ("proxy_buffering off;.*", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;")
GZIP: Final = ("gzip off;.*", "gzip on; gzip_types text/event-stream; gzip_proxied any; gzip_min_length 0;")
NO_TLS: Final = [(r"(listen 127\.0\.0\.1:\d+) ssl", r"\1"), ("http2 on;.*", ""), (r"ssl_certificate(_key)? .*", "")]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp(request.param)
    with Serve(folder, "--allowed-host", "localhost", "--allowed-host", HOST, *SERVERS[request.param]) as server:
        yield server


@pytest.mark.parametrize(
    ("server", "replace", "http2", "accepts"),
    [
        pytest.param("silent", [BUFFERS], False, "identity", id="buffering"),
        pytest.param("silent", [BUFFERS, GZIP], False, "gzip", id="buffering and gzip"),
        pytest.param("silent", [IGNORES], True, "identity", id="the header ignored, HTTP 2"),
        pytest.param("silent", [IGNORES, *NO_TLS], False, "identity", id="the header ignored, no TLS"),
        pytest.param("padded", [IGNORES], False, "identity", id="the header ignored, TLS"),
        pytest.param("padded", [IGNORES, GZIP], False, "gzip", id="the header ignored, and gzip"),
    ],
    indirect=["server"],
)
def test_events_arrive(server: Serve, replace: list[tuple[str, str]], http2: bool, accepts: str) -> None:
    """The head, then each event, before the next one is published."""
    with Nginx(server.port, replace=replace) as proxy:
        plain = any(each in replace for each in NO_TLS)
        url = proxy.url.replace("https:", "http:") if plain else proxy.url
        with (
            httpx2.Client(http2=http2, verify=proxy.trust, timeout=PATIENCE) as client,
            client.stream("GET", f"{url}/channels/news", headers={"accept-encoding": accepts}) as answer,
        ):
            assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert answer.headers.get("content-encoding", "identity") == accepts
            lines = answer.iter_lines()
            for number in range(3):
                httpx2.post(f"{server.url}/channels/news", content=f"event {number}")
                assert next(line for line in lines if line.startswith("data:")) == f"data: event {number}"


@pytest.mark.parametrize("server", ["silent"], indirect=True)
def test_caddy_that_encodes(server: Serve) -> None:
    """It passes each event on at once without `flush_interval`, and leaves the stream uncompressed."""
    replace = [(r"\t\tflush_interval -1\n", ""), (r"\treverse_proxy", "\tencode gzip\n\treverse_proxy")]
    with (
        Caddy(server.port, replace=replace) as proxy,
        httpx2.Client(verify=proxy.trust, timeout=PATIENCE) as client,
        client.stream("GET", f"{proxy.url}/channels/news", headers={"accept-encoding": "gzip"}) as answer,
    ):
        assert "content-encoding" not in answer.headers
        lines = answer.iter_lines()
        httpx2.post(f"{server.url}/channels/news", content="an event")
        assert next(line for line in lines if line.startswith("data:")) == "data: an event"
