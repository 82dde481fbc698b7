"""Real clients on `newswire serve --compress`: each decodes it event by event, and goes on after kill -9."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import aiohttp
import httpx
import httpx2
import pytest
import requests
from tests.fixtures.node import node
from tests.fixtures.proxies import HOST, Caddy, Nginx, Proxy
from tests.fixtures.serve import PATIENCE, Serve

from newswire import AsyncEventSource, EventSource
from newswire.client import Backoff, Options
from newswire.doctor import Patient, examine
from newswire.wire import Decoder
from newswire.wire.gzip import HEAD, block

ROWS = [{"id": number, "name": "ada", "ok": True} for number in range(25)]
ACCEPTS = {"accept-encoding": "gzip"}
LAST: Final = 19


def rows(number: int) -> str:
    """A kilobyte of JSON."""
    return json.dumps({"number": number, "rows": ROWS})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Serve(
        tmp_path_factory.mktemp("serve"), "--compress", "--heartbeat", "0.2", "--retry", "100", "--allowed-host", HOST
    ) as running:
        yield running


class Seen:
    """What one client has: the numbers of events, in the order in which they came, and the newest id."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.id = ""
        self.encodings: set[str | None] = set()

    def take(self, data: str, id: str) -> None:
        """Note an event; those of newswire's own have no number."""
        self.id = id
        if "number" in (body := json.loads(data)):
            self.numbers.append(body["number"])

    @property
    def over(self) -> bool:
        """It has the last one."""
        return self.numbers[-1:] == [LAST]


def again(seen: Seen, url: str, attempt: Callable[[dict[str, str], Callable[[bytes], bool]], None]) -> None:
    """What a person writes around a client that doesn't reconnect by itself. `attempt` raises, or returns."""
    while not seen.over:
        decoder = Decoder()

        def take(data: bytes, decoder: Decoder = decoder) -> bool:
            for event in decoder.feed(data):
                seen.take(event.data, event.id or "")
            return seen.over

        try:
            attempt({**ACCEPTS, **({"last-event-id": seen.id} if seen.id else {})}, take)
        except (OSError, httpx.TransportError, httpx2.TransportError, aiohttp.ClientError):
            time.sleep(0.05)  # the server is away


def by_httpx(library: Any) -> Callable[[str, Seen], None]:
    def read(url: str, seen: Seen) -> None:
        def attempt(headers: dict[str, str], take: Callable[[bytes], bool]) -> None:
            with library.stream("GET", url, headers=headers, timeout=PATIENCE) as answer:
                seen.encodings.add(answer.headers.get("content-encoding"))
                any(take(data) for data in answer.iter_bytes())

        again(seen, url, attempt)

    return read


def by_requests(url: str, seen: Seen) -> None:
    def attempt(headers: dict[str, str], take: Callable[[bytes], bool]) -> None:
        with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as answer:
            seen.encodings.add(answer.headers.get("content-encoding"))
            any(take(data) for data in answer.iter_content(None))

    again(seen, url, attempt)


def by_aiohttp(url: str, seen: Seen) -> None:
    async def once(headers: dict[str, str], take: Callable[[bytes], bool]) -> None:
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            seen.encodings.add(answer.headers.get("content-encoding"))
            async for data in answer.content.iter_any():
                if take(data):
                    return

    again(seen, url, lambda headers, take: asyncio.run(once(headers, take)))


def by_curl(url: str, seen: Seen) -> None:
    def attempt(headers: dict[str, str], take: Callable[[bytes], bool]) -> None:
        named = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
        with subprocess.Popen(["curl", "-sN", "--compressed", *named, url], stdout=subprocess.PIPE) as curl:
            assert curl.stdout is not None
            while (data := curl.stdout.read1()) and not take(data):  # type: ignore[attr-defined]
                pass
            curl.kill()
        time.sleep(0.05)

    again(seen, url, attempt)
    seen.encodings.add("gzip")  # it does not say


NODE = """
let last = "", over = false;
while (!over) {
  try {
    const headers = last ? { "last-event-id": last } : {};
    const answer = await fetch(process.argv[1], { headers });
    console.log(JSON.stringify({ encoding: answer.headers.get("content-encoding") }));
    let text = "";
    for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
      text += piece;
      const blocks = text.split("\\n\\n");
      text = blocks.pop();
      for (const block of blocks) {
        last = /^id: (.*)$/m.exec(block)?.[1] ?? last;
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (data) console.log(JSON.stringify({ id: last, data }));
        over ||= data?.includes('"number": 19,');
      }
      if (over) break;
    }
  } catch { await new Promise((done) => setTimeout(done, 50)); }
}
process.exit(0);
"""


def by_node(url: str, seen: Seen) -> None:
    command = [node(), "--input-type=module", "-e", NODE, "--", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "encoding" in told:
                seen.encodings.add(told["encoding"])
            else:
                seen.take(told["data"], told["id"])
        assert process.wait(PATIENCE) == 0


OPTIONS = Options(backoff=Backoff(first=0.05, cap=0.2))


def by_event_source(url: str, seen: Seen) -> None:
    with EventSource(url, headers=ACCEPTS, options=OPTIONS) as source:
        for event in source:
            seen.take(event.data, event.id or "")
            if seen.over:
                break
    seen.encodings.add("gzip")


async def read(source: AsyncEventSource, seen: Seen) -> None:
    async with source:
        async for event in source:
            seen.take(event.data, event.id or "")
            if seen.over:
                break
    seen.encodings.add("gzip")


def by_async_event_source(url: str, seen: Seen) -> None:
    asyncio.run(read(AsyncEventSource(url, headers=ACCEPTS, options=OPTIONS), seen))


def by_async_event_source_of_aiohttp(url: str, seen: Seen) -> None:
    async def read_with_session() -> None:
        async with aiohttp.ClientSession() as session:
            await read(AsyncEventSource(url, client=session, headers=ACCEPTS, options=OPTIONS), seen)

    asyncio.run(read_with_session())


CLIENTS: Final = {
    "curl": by_curl,
    "httpx": by_httpx(httpx),
    "httpx2": by_httpx(httpx2),
    "requests": by_requests,
    "aiohttp": by_aiohttp,
    "Node's fetch": by_node,
    "newswire.EventSource": by_event_source,
    "newswire.AsyncEventSource": by_async_event_source,
    "newswire.AsyncEventSource of aiohttp": by_async_event_source_of_aiohttp,
}


@pytest.mark.slow
def test_clients_across_kill_9(server: Serve) -> None:
    """Each has each event once and in order: some before the server was killed, the rest by its last id."""
    url = f"{server.url}/channels/clients?from=earliest"
    seen = {name: Seen() for name in CLIENTS}
    threads = [threading.Thread(target=read, args=(url, seen[name]), daemon=True) for name, read in CLIENTS.items()]
    for number in range(5):
        server.publish("clients", rows(number))
    for thread in threads:
        thread.start()
    for number in range(5, 10):
        server.publish("clients", rows(number))
    until(lambda: all(each.numbers[-1:] == [9] for each in seen.values()), seen)
    server.stop(signal.SIGKILL)
    server.start()
    for number in range(10, LAST + 1):
        server.publish("clients", rows(number))
    for thread in threads:
        thread.join(PATIENCE)
    assert {name: each.numbers for name, each in seen.items()} == {name: list(range(LAST + 1)) for name in seen}
    assert {name: each.encodings for name, each in seen.items()} == {name: {"gzip"} for name in seen}


def until(condition: Callable[[], bool], seen: dict[str, Seen]) -> None:
    """Wait for the threads."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, {name: each.numbers for name, each in seen.items()}
        time.sleep(0.02)


# Proxies that compress event streams, or would: ours are compressed already, and pass. (Caddy obeys no-transform.)
_ENCODE = "\tencode {\n\t\tgzip\n\t\tminimum_length 1\n\t\tmatch header Content-Type text/event-stream*\n\t}\n"
ZEALOUS: Final = {
    "nginx": (Nginx, [(r"gzip off;", "gzip on; gzip_types text/event-stream; gzip_proxied any; gzip_min_length 1;")]),
    "caddy": (
        Caddy,
        [
            (r"(?m)^\treverse_proxy", f"{_ENCODE}\treverse_proxy"),
            (r"flush_interval -1", "flush_interval -1\n\t\theader_down -Cache-Control"),
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("name", ZEALOUS)
async def test_proxies_that_compress_pass_ours_through(server: Serve, name: str) -> None:
    """Our own blocks, byte for byte, and event by event."""
    kind, replace = ZEALOUS[name]
    proxy: Proxy
    with kind(server.port, replace=replace) as proxy:
        address = f"{proxy.url}/channels/{name}"
        async with httpx2.AsyncClient(http2=True, verify=proxy.trust, timeout=PATIENCE) as http:
            async with http.stream("GET", address, headers=ACCEPTS) as answer:
                assert answer.headers["content-encoding"] == "gzip"
                raw, pieces = b"", answer.aiter_raw()
                while b"retry: 100" not in raw:  # so short that it is not compressed
                    raw += await anext(pieces)
                for number in range(3):
                    id = server.publish(name, rows(number))
                    ours = block(f"id: {id}\ndata: {rows(number)}\n\n".encode())
                    while ours not in raw:
                        raw += await anext(pieces)
            assert raw.startswith(HEAD)
            text = zlib.decompressobj(31).decompress(raw).decode()
            assert [text.count(rows(number)) for number in range(3)] == [1, 1, 1]
            async with http.stream("GET", address, headers={"accept-encoding": "identity"}) as answer:
                assert "content-encoding" not in answer.headers


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_doctor_finds_nothing(server: Serve) -> None:
    """Compression that holds nothing back is no fault; the short `retry:` of these tests is."""
    for number in range(5):
        server.publish("doctor", rows(number))
    report = await examine(Patient(url=f"{server.url}/channels/doctor?from=earliest", seconds=2))
    assert [each.code for each in report.findings] == ["retry-storm"]
