"""The configurations of docs/deploy, on real nginx and Caddy with TLS and HTTP/2, in front of real servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from tests.fixtures.http2 import Http2Streams
from tests.fixtures.proxies import DEPLOY, HOST, Caddy, Nginx, Proxy
from tests.fixtures.serve import Serve, run_newswire

from newswire import AsyncEventSource
from newswire.client import Backoff, Hooks, Options
from newswire.doctor import Patient, examine
from newswire.errors import BadStatus, NewswireError

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
PROXIES = {"nginx": Nginx, "caddy": Caddy}
FLAGS = ("--heartbeat", "1", "--retry", "500", "--log", "sqlite:///newswire.db", "--allowed-host", HOST)
PATIENCE = 30.0
ROLLS = int(os.environ.get("ROLLS", "1"))  # rolling restarts: `make rolling ROLLS=10`


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Serve]]:
    """Two servers on one log."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Serve(tmp_path, *FLAGS)) for _ in range(2)]


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest, servers: list[Serve]) -> Iterator[Proxy]:
    """Each proxy, in front of both."""
    with PROXIES[request.param](*(server.port for server in servers)) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def client(proxy: Proxy) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that speaks HTTP/2, and trusts the proxy."""
    async with httpx2.AsyncClient(http2=True, verify=proxy.trust, base_url=proxy.url, timeout=PATIENCE) as found:
        yield found


async def until(stream: Any, pattern: str) -> str:
    """Read until the stream has this."""
    text = ""
    async with asyncio.timeout(PATIENCE):
        async for chunk in stream:
            text += chunk
            if re.search(pattern, text):
                return text
    raise AssertionError(text)


async def test_20_streams_on_one_connection(proxy: Proxy) -> None:
    """HTTP/2, each event as it comes, from whichever server it was published to."""
    async with client(proxy) as http, contextlib.AsyncExitStack() as stack:
        answers = [await stack.enter_async_context(http.stream("GET", "/channels/news")) for _ in range(20)]
        streams = [answer.aiter_text() for answer in answers]
        for number in range(3):
            published = await http.post("/channels/news", content=f"event {number}")
            assert published.status_code == 200, published.text
            for stream in streams:
                await until(stream, f"data: event {number}\n")
        assert {answer.http_version for answer in answers} == {"HTTP/2"}


async def test_the_doctor_finds_nothing(proxy: Proxy) -> None:
    """But that it does not know who signed the certificate."""
    async with client(proxy) as http:
        for number in range(5):
            await http.post("/channels/news", content=f"event {number}")
    report = await examine(Patient(url=f"{proxy.url}/channels/news?from=earliest", seconds=3))
    assert [each.code for each in report.findings] == ["tls"]
    assert "accel-header" not in [each.code for each in report.notes]  # nginx takes it away
    assert report.watched.version == "HTTP/2"


def test_stalled_readers_cost_bounded_memory(
    proxy: Proxy, servers: list[Serve], record_property: Callable[[str, object], None]
) -> None:
    """20 streams of one HTTP/2 connection that take nothing, of 20 MB each: no server and no proxy keeps that."""
    paths = ["/channels/news"] * 20
    with Http2Streams(proxy.port, paths, stalled=True, trust=proxy.trust) as client:
        client.read_until(lambda: all("id: " in text for text in client.text.values()))
        assert proxy.process is not None
        pids = [server.process.pid for server in servers] + [proxy.process.pid]
        before = [resident(pid) for pid in pids]
        with httpx2.Client(timeout=PATIENCE) as http:
            for _ in range(340):
                assert http.post(f"{servers[0].url}/channels/news", content="x" * 60_000).status_code == 200
        # All of it would be 400 MB. A hub's window has 16 MB for all, and SQLite's pages and the last body are beside.
        grown = [(resident(pid) - was) / 2**20 for pid, was in zip(pids, before, strict=True)]
        record_property("shown", f"{max(grown[:2]):.0f} MB, the proxy {grown[2]:.0f}")
        assert max(grown) < 80


def resident(pid: int) -> int:
    """The memory of a process, in bytes."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) * 1024


async def test_a_server_that_stops_says_goodbye(proxy: Proxy, servers: list[Serve]) -> None:
    """Through the proxy too; the answer ends in order."""
    async with client(proxy) as http, contextlib.AsyncExitStack() as stack:
        answers = [await stack.enter_async_context(http.stream("GET", "/channels/news")) for _ in range(4)]
        streams = [answer.aiter_text() for answer in answers]
        for stream in streams:
            await until(stream, "id: ")
        for server in servers:
            server.process.terminate()
        for stream in streams:
            await until(stream, r"event: newswire\.goodbye\n")
        for server in servers:
            assert server.process.wait(PATIENCE) == 0


async def test_a_rolling_restart_loses_nothing(proxy: Proxy, servers: list[Serve]) -> None:
    """Each server is restarted under load: each reader gets each event once, and no reader sees an error."""
    pages: list[NewswireError] = []  # of errors, and gaps
    seen: list[list[str]] = [[] for _ in range(6)]
    begun = [asyncio.Event() for _ in seen]

    async def read(number: int) -> None:
        hooks = Hooks(error=lambda error, wait: pages.append(error) if isinstance(error, BadStatus) else None)
        options = Options(backoff=Backoff(first=0.1, longest=0.5), hooks=hooks)
        url = f"{proxy.url}/channels/news"
        async with client(proxy) as http, AsyncEventSource(url, client=http, options=options) as source:
            async for event in source:
                if event.event == "newswire.goodbye":
                    continue
                if event.data == "begin":
                    begun[number].set()
                    continue
                if event.data == "end":
                    return
                seen[number].append(event.data)

    async def publish(http: httpx2.AsyncClient, text: str) -> None:
        """Publish it once, however often it takes."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    headers = {"Idempotency-Key": text}
                    answer = await http.post("/channels/news", content=text, headers=headers)
                    if answer.status_code == 200:
                        return
                await asyncio.sleep(0.05)

    async def restart() -> None:
        for server in servers * ROLLS:
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)

    async with client(proxy) as http, asyncio.TaskGroup() as group, asyncio.timeout((2 + ROLLS) * PATIENCE):
        for number in range(len(seen)):
            group.create_task(read(number))
        while not all(each.is_set() for each in begun):
            await http.post("/channels/news", content="begin")
            await asyncio.sleep(0.1)
        restarting = group.create_task(restart())
        sent = []
        while not restarting.done():
            sent.append(str(len(sent)))
            await publish(http, sent[-1])
            await asyncio.sleep(0.03)
        await publish(http, "end")
    assert pages == []
    assert len(sent) > 20
    assert seen == [sent] * len(seen)


def test_the_flags_in_the_examples_exist() -> None:
    """Of systemd's, Kubernetes' and Docker's files, of the configurations, and of the page."""
    known = {"--version", *re.findall(r"--[\w-]+", run_newswire("serve", "--help", folder=DEPLOY).stdout.decode())}
    for file in DEPLOY.iterdir():
        text = re.sub(r"pip install.*|useradd.*|kubectl.*|newswire doctor.*|`--header`", "", file.read_text())
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text)) <= known, file.name
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["Deployment", "Service"]
