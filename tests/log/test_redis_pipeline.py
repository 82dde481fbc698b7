"""Requests on one connection to a Valkey server, and to servers that answer wrongly, late or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio.connection import Connection
from tests.fixtures.engines import Valkey

from newswire.log.redis.pipeline import Pipeline, RedisRefused

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Pipeline]:
    """A pipeline to a server."""
    connection = Connection(port=port, protocol=2, driver_info=None)
    await connection.connect()
    pipeline = Pipeline(connection)
    try:
        yield pipeline
    finally:
        await pipeline.close()


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[Pipeline]:
    """A pipeline to a server that says one after the other, a moment apart, when something comes; empty: it closes."""

    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        for answer in answers:
            writer.write(answer)
            await asyncio.sleep(0.002)
        if b"" not in answers:
            await reader.read()
        writer.close()
        await writer.wait_closed()
        over.set()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        async with connected(server.sockets[0].getsockname()[1]) as pipeline:
            yield pipeline
        await over.wait()


async def test_each_gets_its_own_answers(valkey: Valkey) -> None:
    """However many wait, and whether some are errors, or their caller was cancelled."""
    async with connected(valkey.port) as pipeline:
        echoes = [pipeline.send([("ECHO", str(number)), ("PING",)], 5.0) for number in range(100)]
        for each in echoes[::7]:
            each.cancel()
        refused = pipeline.send([("GET",), ("EVAL", "return redis.call('NOSUCH')", 0), ("PING",)], 5.0)
        large = pipeline.send([("ECHO", "x" * 3_000_000)], 5.0)
        for number, each in enumerate(echoes):
            if number % 7:
                assert await each == [str(number).encode(), b"PONG"]
        wrong, unknown, pong = await refused
        assert isinstance(wrong, RedisRefused)
        assert str(wrong).startswith("ERR wrong number of arguments")
        assert isinstance(unknown, RedisRefused)
        assert pong == b"PONG"
        assert await large == [b"x" * 3_000_000]
        assert pipeline.is_open


async def test_an_answer_in_pieces() -> None:
    """Answers may be cut anywhere."""
    async with answering(b"*2", b"\r\n$3\r\na", b"\r\n", b"\r\n:4", b"2\r\n+O", b"K\r\n") as pipeline:
        both = pipeline.send([("A",)], 5.0), pipeline.send([("B",)], 5.0)
        assert await asyncio.gather(*both) == [[[b"a\r\n", 42]], [b"OK"]]


@pytest.mark.parametrize(
    ("answers", "lost"),
    [
        ((b"hello\r\n",), 2),
        ((b":1\r\n", b":2\r\n:3\r\n:4\r\n"), 0),
        ((b":1\r\n", b""), 1),
        ((b":1\r\n:2\r\n$9\r\nx", b""), 1),
    ],
)
async def test_a_connection_of_no_use(answers: tuple[bytes, ...], lost: int) -> None:
    """The server says what is no answer, says too much, or closes: what waits fails, and the connection is over."""
    async with answering(*answers) as pipeline:
        waiting = pipeline.send([("A",)], 60.0), pipeline.send([("B",), ("C",)], 60.0)
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(each, ConnectionResetError) for each in found] == [number >= 2 - lost for number in range(2)]
        while pipeline.is_open:
            await asyncio.sleep(0.001)


async def test_an_answer_that_is_late() -> None:
    """The first request is overdue first; then the connection is of no use, also for later ones."""
    async with answering() as pipeline:
        first, second = pipeline.send([("A",)], 0.05), pipeline.send([("B",)], 60.0)
        for each in (first, second):
            with pytest.raises(TimeoutError):
                await each
        assert not pipeline.is_open


async def test_closing_tells_what_waits() -> None:
    """It does not wait for ever."""
    async with answering() as pipeline:
        waiting = pipeline.send([("A",)], 60.0)
        await pipeline.close()
        with pytest.raises(ConnectionResetError, match="closed"):
            await waiting
        assert not pipeline.is_open
