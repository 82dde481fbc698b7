"""Compressed streams: compressed once for all readers, right in every sink, and however a stream ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.asgi_request import Client
from tests.fixtures.asgi_servers import PATIENCE, running

from newswire import EventSourceResponse, Hub, StreamOptions
from newswire.delivery.stream import CompressedSink
from newswire.hub import frames
from newswire.hub.frames import HEARTBEAT, Chunk
from newswire.hub.stats import Counts
from newswire.wire import Decoder, Event
from newswire.wire.gzip import GzipBody

ROWS = json.dumps([{"id": number, "name": "ada", "ok": True} for number in range(25)])
ON_SERVERS = ["direct", "direct, wrapped", "uvicorn h11", "hypercorn, handed", "granian", "daphne"]


def plain(data: bytes) -> str:
    """What a body says that may not be over."""
    return zlib.decompressobj(31).decompress(data).decode()


class Reader(Client):
    """A client that takes gzip."""

    @property
    def body(self) -> bytes:
        """All that came."""
        return b"".join(message["body"] for message in self.sent)

    @property
    def text(self) -> str:
        return plain(self.body)


@asynccontextmanager
async def streaming(content: Any, client: Client, accept: bytes = b"gzip", **options: Any) -> AsyncIterator[Any]:
    """A stream to `client`; it has begun, and is ended at the end."""
    response = EventSourceResponse(content, options=StreamOptions(compress=True, **options))
    scope = {"type": "http", "method": "GET", "http_version": "1.1", "headers": [(b"accept-encoding", accept)]}
    task = asyncio.create_task(response(scope, client.receive, client.send))
    try:
        await client.until(lambda: bool(client.headers) and "retry:" in client.text)
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub() as hub:
        yield hub


@pytest.mark.anyio
async def test_an_event_is_compressed_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all readers that take gzip, which get the same object; for none if none does."""
    made: list[bytes] = []
    block = frames.block

    def counted(data: bytes) -> bytes:
        made.append(data)
        return block(data)

    monkeypatch.setattr(frames, "block", counted)
    other = Client()
    async with streaming(hub.subscribe("news"), other, b"br"):
        await hub.publish("news", ROWS)
        await other.until(lambda: ROWS in other.text)
        assert b"content-encoding" not in other.headers
        assert other.headers[b"vary"] == b"accept-encoding"
        assert made == []
        readers = [Reader() for _ in range(5)]
        tasks = [streaming(hub.subscribe("news"), reader) for reader in readers]
        for each in tasks:
            await each.__aenter__()
        assert {reader.headers[b"content-encoding"] for reader in readers} == {b"gzip"}
        del made[:]
        for number in range(3):
            await hub.publish("news", f"{number} {ROWS}")
            for reader in readers:
                await reader.until(lambda reader=reader, number=number: f"{number} {ROWS}" in reader.text)  # type: ignore[misc]
        assert [data.count(b"data: ") for data in made] == [1, 1, 1]
        for reader in readers[1:]:
            assert reader.sent[-1]["body"] is readers[0].sent[-1]["body"]
        for each in tasks:
            await each.__aexit__(None, None, None)


@pytest.mark.anyio
async def test_a_slow_reader_gets_one_block_for_all_that_it_missed(hub: Hub) -> None:
    """The rest is compressed together, and its connection never held more than the one write before."""
    client = Reader()
    async with streaming(hub.subscribe("news"), client):
        client.open.clear()
        await hub.publish("news", "held")
        await client.until(lambda: client.waiting == 1)
        for number in range(20):
            await hub.publish("news", f"{number} {ROWS}")
        before = len(client.sent)
        client.open.set()
        await client.until(lambda: f"19 {ROWS}" in client.text)
        assert [client.text.count(f"data: {number} {ROWS}") for number in range(20)] == [1] * 20
        replay = client.sent[before + 1 :]
        assert len(replay) == 1
        assert len(replay[0]["body"]) < len(ROWS)


@pytest.mark.anyio
async def test_max_bytes_counts_what_is_sent(hub: Hub) -> None:
    """Compressed bytes: a stream has more events before its goodbye."""
    client = Reader()
    async with streaming(hub.subscribe("news"), client, max_bytes=2 * len(ROWS)) as task:
        number = 0
        while not task.done():
            await hub.publish("news", f"{number} {ROWS}")
            number += 1
            await client.until(lambda number=number: client.text.count(ROWS) == number or task.done())  # type: ignore[misc]
            assert number < 1000
    text = gzip.decompress(client.body).decode()
    assert "newswire.goodbye" in text
    assert text.count(ROWS) > 4
    assert 2 * len(ROWS) < len(client.body) < 3 * len(ROWS)


@pytest.mark.anyio
@pytest.mark.parametrize("held", [False, True])
async def test_a_goodbye_of_a_cancelled_task(hub: Hub, held: bool) -> None:
    """It can be decoded. A trailer follows if it is known what went out, else the body ends as if it were cut."""
    client = Reader()
    async with streaming(hub.subscribe("news"), client) as task:
        if held:
            client.open.clear()
            await hub.publish("news", ROWS)
            await client.until(lambda: client.waiting == 1)
            client.on_wait = client.open.set
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    reader = zlib.decompressobj(31)
    assert b"newswire.goodbye" in reader.decompress(client.body)
    assert reader.eof is not held


@pytest.mark.anyio
async def test_a_task_that_is_cancelled_as_its_stream_ends(hub: Hub) -> None:
    """There is one end, and nothing behind it."""
    client, subscription = Reader(), hub.subscribe("news")
    async with streaming(subscription, client) as task:
        subscription.goodbye()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert gzip.decompress(client.body).count(b"newswire.goodbye") == 1


@pytest.mark.anyio
async def test_an_iterable_that_is_cancelled_in_its_last_send() -> None:
    """Nothing follows the end."""

    last = asyncio.Event()

    async def items() -> AsyncIterator[str]:
        yield ROWS
        await last.wait()

    client = Reader()
    async with streaming(items(), client) as task:
        await client.until(lambda: ROWS in client.text)
        client.open.clear()
        last.set()
        await client.until(lambda: client.waiting == 1)
        client.on_wait = client.open.set
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert client.sent[-1]["body"] == b""
    assert zlib.decompressobj(31).decompress(client.body).count(ROWS.encode()) == 1


@pytest.mark.anyio
async def test_an_iterable() -> None:
    """Its items come one by one, with heartbeats between; its end is the body's."""
    more = asyncio.Event()

    async def items() -> AsyncIterator[str]:
        yield ROWS
        await more.wait()
        yield ROWS

    client = Reader()
    async with streaming(items(), client, heartbeat=0.05) as task:
        await client.until(lambda: "\n:\n" in client.text)
        assert client.text.count(ROWS) == 1
        more.set()
        await task
    text = gzip.decompress(client.body).decode()
    assert text.count(f"data: {ROWS}\n\n") == 2
    assert len(client.body) < len(ROWS)


@pytest.mark.anyio
async def test_content_that_is_encoded_already(hub: Hub) -> None:
    """By a response's own header: it stays as it is."""
    client = Client()
    response = EventSourceResponse(
        [b"x"], headers={"Content-Encoding": "identity"}, options=StreamOptions(compress=True, retry=None)
    )
    scope = {"type": "http", "method": "GET", "http_version": "1.1", "headers": [(b"accept-encoding", b"gzip")]}
    await response(scope, client.receive, client.send)
    assert client.headers[b"content-encoding"] == b"identity"
    assert client.text == "data: x\n\n"


class Collected:
    """A sink that takes all."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def write(self, chunk: Chunk) -> bool:
        self.chunks.append(chunk)
        return True

    def end(self, last: Chunk | None) -> None:
        self.chunks += [] if last is None else [last]

    def cut(self) -> None:
        self.chunks = []


@given(
    texts=st.lists(st.one_of(st.binary(max_size=200), st.just(ROWS.encode())), max_size=10),
    whose=st.lists(st.sets(st.integers(0, 3)), max_size=10),
    last=st.none() | st.binary(max_size=20),
)
def test_readers_that_share_chunks_in_any_way(texts: list[bytes], whose: list[set[int]], last: bytes | None) -> None:
    """Whichever chunks a reader gets, with heartbeats between, it decodes them, and its trailer is right."""
    counts = Counts()
    sinks = [Collected() for _ in range(4)]
    readers = [CompressedSink(sink, GzipBody(), counts) for sink in sinks]
    wanted = [b""] * 4
    for text, takers in zip(texts, whose, strict=False):
        for chunk in (Chunk(raw=text), HEARTBEAT):
            for number in takers:
                assert readers[number].write(chunk)
                wanted[number] += chunk.raw
    sent = 0
    for reader, sink, expected in zip(readers, sinks, wanted, strict=True):
        reader.end(None if last is None else Chunk(raw=last))
        sent += sum(len(chunk.raw) for chunk in sink.chunks)
        assert gzip.decompress(b"".join(chunk.raw for chunk in sink.chunks)) == expected + (last or b"")
        reader.cut()
        assert sink.chunks == []
    assert counts.compressed_from == sum(map(len, wanted)) + 4 * len(last or b"")
    assert counts.compressed_to == sent


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_SERVERS)
def test_on_servers(name: str) -> None:
    """On the direct path and by ASGI: event by event; and a stream that ends in order has a right trailer."""
    with running(name) as server, httpx2.Client(timeout=PATIENCE) as http:
        address = f"http://127.0.0.1:{server.port}/events?compress"
        with http.stream("GET", address) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            decoder, events, pieces = Decoder(), list[Event](), answer.iter_bytes()
            ids = []
            for number in range(3):
                ids.append(server.publish(f"{number} {ROWS}"))
                while len(events) <= number:
                    events += decoder.feed(next(pieces))
        assert [event.id for event in events] == ids
        with http.stream("GET", f"{address}&max_age=0.1", headers={"last-event-id": ids[0]}) as answer:
            text = gzip.decompress(b"".join(answer.iter_raw())).decode()
        assert "newswire.goodbye" in text
        assert text.count(ROWS) == 2
        with http.stream("GET", address, headers={"accept-encoding": "identity"}) as answer:
            assert "content-encoding" not in answer.headers
            assert "retry: 3000" in next(answer.iter_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["direct", "uvicorn h11"])
def test_a_reader_that_stalls_on_servers(name: str) -> None:
    """What its connection can't hold comes later, in order and with a right trailer."""
    texts = [random.Random(number).randbytes(15_000).hex() for number in range(60)]  # half of it when compressed
    with running(name) as server, httpx2.Client(timeout=PATIENCE) as http:
        address = f"http://127.0.0.1:{server.port}/events?compress"
        with http.stream("GET", address) as answer:
            for text in texts:
                server.publish(text)
            decoder, events = Decoder(), list[Event]()
            for piece in answer.iter_bytes():
                events += decoder.feed(piece)
                if len(events) == len(texts):
                    server.process.terminate()  # the end is read too
        assert [event.data for event in events[: len(texts)]] == texts
        assert [event.event for event in events[len(texts) :]] == ["newswire.goodbye"]
        assert answer.num_bytes_downloaded < 0.6 * sum(map(len, texts))
