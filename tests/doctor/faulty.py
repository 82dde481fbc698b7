"""Event streams with one fault each, on raw connections: no framework would let most of them pass."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import re
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

GOOD = "Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\nIncremental: ?1\r\n"


@dataclass
class Request:
    """What a connection asked for.

    Attributes:
        method: of the request.
        headers: names in lower case.
        number: how many came before it.
    """

    method: str
    headers: dict[str, str]
    number: int

    @property
    def cursor(self) -> int | None:
        """Its Last-Event-ID, if that is one of ours."""
        text = self.headers.get("last-event-id", "")
        return int(text) if text.isdigit() else None


class Response:
    """Writes one answer."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._chunked = False

    async def head(self, status: str = "200 OK", headers: str = GOOD, *, chunked: bool = True) -> None:
        self._chunked = chunked
        coding = "Transfer-Encoding: chunked\r\n" if chunked else ""
        await self.raw(f"HTTP/1.1 {status}\r\n{headers}{coding}Connection: close\r\n\r\n".encode())

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def body(self, data: str | bytes) -> None:
        data = data.encode() if isinstance(data, str) else data
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        if self._chunked:
            await self.raw(b"0\r\n\r\n")


Fault = Callable[[Request, Response], Awaitable[None]]
FAULTS: dict[str, tuple[str, Fault]] = {}


def fault(code: str) -> Callable[[Fault], Fault]:
    """Register a server whose fault the doctor has to name so."""

    def register(serve: Fault) -> Fault:
        FAULTS[serve.__name__] = code, serve
        return serve

    return register


async def numbers(after: int | None, *, pace: float = 0.1) -> AsyncIterator[tuple[int, str]]:
    """Numbered events: ten that are there, then one each `pace` seconds."""
    begin = 1 if after is None else after + 1
    for number in itertools.count(begin):
        if number > 10:
            await asyncio.sleep(pace)
        yield number, f"id: {number}\ndata: event {number}\n\n"


async def healthy(request: Request, response: Response) -> None:
    """A stream as it should be."""
    await response.head()
    if request.method == "HEAD":
        return
    await response.body("retry: 2000\n\n")
    async for _, block in numbers(request.cursor):
        await response.body(block)


@fault("content-type")
async def json(request: Request, response: Response) -> None:
    await response.head(headers="Content-Type: application/json\r\n")
    await response.body("{}")
    await response.end()


@fault("content-type")
async def nearly_a_stream(request: Request, response: Response) -> None:
    await response.head(headers="Content-Type: text/event-streaming\r\n")
    await response.body("id: 1\ndata: x\n\n")
    await response.end()


@fault("ends")
async def one_event_each(request: Request, response: Response) -> None:
    await response.head()
    if request.method != "HEAD":
        number = (request.cursor or 0) + 1
        await response.body(f"retry: 2000\nid: {number}\ndata: x\n\n")
    await response.end()


@fault("charset")
async def latin1(request: Request, response: Response) -> None:
    await response.head(headers=GOOD.replace("event-stream", "event-stream; charset=iso-8859-1"))
    async for _, block in numbers(request.cursor):
        await response.body(block)


@fault("status")
async def crashed(request: Request, response: Response) -> None:
    await response.head("500 Internal Server Error")
    await response.end()


@fault("auth")
async def locked(request: Request, response: Response) -> None:
    await response.head("401 Unauthorized")
    await response.end()


@fault("no-content")
async def nothing(request: Request, response: Response) -> None:
    await response.head("204 No Content", chunked=False)


@fault("content-length")
async def measured(request: Request, response: Response) -> None:
    await response.head(headers=GOOD + "Content-Length: 100000\r\n", chunked=False)
    if request.method != "HEAD":
        async for _, block in numbers(request.cursor):
            await response.body(block)


@fault("cacheable")
async def cached(request: Request, response: Response) -> None:
    await response.head(headers=GOOD.replace("no-cache", "public, max-age=600"))
    async for _, block in numbers(request.cursor):
        await response.body(block)


@fault("compression-unasked")
async def always_gzip(request: Request, response: Response) -> None:
    await response.head(headers=GOOD + "Content-Encoding: gzip\r\n")
    await response.body(gzip.compress(b"id: 1\ndata: x\n\n" if request.cursor is None else b"id: 2\ndata: y\n\n"))
    await asyncio.sleep(3600)


@fault("compression-unasked")
async def always_brotli(request: Request, response: Response) -> None:
    await response.head(headers=GOOD + "Content-Encoding: br\r\n")
    await response.body(b"\x0b\x02\x80data\x03")
    await asyncio.sleep(3600)


@fault("compression-broken")
async def only_the_header_of_gzip(request: Request, response: Response) -> None:
    if "gzip" in request.headers.get("accept-encoding", ""):
        await response.head(headers=GOOD + "Content-Encoding: gzip\r\n")
        await response.body("id: 1\ndata: x\n\n")
        await asyncio.sleep(3600)
    await healthy(request, response)


@fault("compression-holds-back")
async def lazy_gzip(request: Request, response: Response) -> None:
    if "gzip" in request.headers.get("accept-encoding", ""):
        await response.head(headers=GOOD + "Content-Encoding: gzip\r\n")
        await response.body(gzip.compress(b"")[:10])
        await asyncio.sleep(3600)
    await healthy(request, response)


@fault("head-late")
async def slow_head(request: Request, response: Response) -> None:
    await asyncio.sleep(3.2)
    await healthy(request, response)


@fault("buffered")
async def by_four_kilobytes(request: Request, response: Response) -> None:
    await response.head()
    held = b""
    async for number, block in numbers(request.cursor, pace=0.03):
        held += block.replace("event", "event " + "x" * 100).encode() if number else b""
        while len(held) >= 4096:
            await response.body(held[:4096])
            held = held[4096:]


@fault("buffered")
async def by_two_seconds(request: Request, response: Response) -> None:
    await response.head()
    number = request.cursor or 0
    while True:
        stamps = []
        for _ in range(4):
            await asyncio.sleep(0.4)
            stamps.append(time.time())
        for stamp in stamps:
            number += 1
            await response.body(f'id: {number}\ndata: {{"at": {stamp:.3f}}}\n\n')


@fault("cut")
async def killed(request: Request, response: Response) -> None:
    await healthy_for(request, response, 0.5)


async def healthy_for(request: Request, response: Response, seconds: float) -> None:
    """Then the connection ends in the middle of the answer."""
    try:
        async with asyncio.timeout(seconds):
            await healthy(request, response)
    except TimeoutError:
        pass


@fault("no-ids")
async def anonymous(request: Request, response: Response) -> None:
    await response.head()
    async for _, block in numbers(request.cursor):
        await response.body(re.sub("id: .*\n", "", block))


@fault("no-ids")
async def empty_ids(request: Request, response: Response) -> None:
    await response.head()
    async for _, block in numbers(request.cursor):
        await response.body(re.sub("id: .*\n", "id\n", block))


@fault("id-long")
async def state_as_id(request: Request, response: Response) -> None:
    await response.head()
    after = request.headers.get("last-event-id", "").strip("x")
    async for _, block in numbers(int(after) if after.isdigit() else None):
        await response.body(block.replace("\n", "x" * 5000 + "\n", 1))


@fault("duplicate-ids")
async def same_id(request: Request, response: Response) -> None:
    await response.head()
    async for _, block in numbers(request.cursor):
        await response.body(re.sub("id: .*\n", "id: same\n", block))


@fault("control-ids")
async def ping_with_id(request: Request, response: Response) -> None:
    await response.head()
    async for number, block in numbers(request.cursor):
        await response.body(block)
        if number > 10:
            await response.body(f"id: {number}-ping\nevent: ping\ndata: {{}}\n\n")


@fault("heartbeat-blank")
async def blank_after_ping(request: Request, response: Response) -> None:
    await response.head()
    async for number, block in numbers(request.cursor):
        await response.body(block)
        if number > 10:
            await response.body(": ping\n\n")


@fault("resume-repeats")
async def from_the_beginning(request: Request, response: Response) -> None:
    await response.head()
    async for _, block in numbers(None):
        await response.body(block)


@fault("resume-loses")
async def from_now(request: Request, response: Response) -> None:
    await response.head()
    await asyncio.sleep(0.1)
    async for _, block in numbers(int(time.time() * 10) % 10**6 + 10**6 if request.cursor is None else 5 * 10**6):
        await response.body(block)


@fault("resume-repeats")
async def twice_each(request: Request, response: Response) -> None:
    await response.head()
    async for _, block in numbers(request.cursor):
        await response.body(block if request.cursor is None else block * 2)


@fault("reconnect-auth")
async def ticket_for_once(request: Request, response: Response) -> None:
    if request.cursor is None:
        await healthy(request, response)
    else:
        await response.head("403 Forbidden")
        await response.end()


@fault("cursor-refused")
async def strict_cursor(request: Request, response: Response) -> None:
    if request.headers.get("last-event-id") and request.cursor is None:
        await response.head("400 Bad Request")
        await response.end()
    else:
        await healthy(request, response)


@fault("never-dispatched")
async def one_newline(request: Request, response: Response) -> None:
    await response.head()
    async for number, _ in numbers(request.cursor, pace=0.3):
        await response.body(f"data: event {number}\n")


@fault("unknown-lines")
async def pretty_json(request: Request, response: Response) -> None:
    await response.head()
    async for number, _ in numbers(request.cursor):
        await response.body(f'id: {number}\ndata: {{\n  "number": {number}\n}}\n\n')


@fault("double-framed")
async def twice(request: Request, response: Response) -> None:
    await response.head()
    async for number, _ in numbers(request.cursor):
        await response.body(f"id: {number}\ndata: data: event {number}\n\n")


@fault("double-framed")
async def bytes_as_text(request: Request, response: Response) -> None:
    await response.head()
    async for number, _ in numbers(request.cursor):
        await response.body(f"id: {number}\ndata: {f'event {number}'.encode()!r}\n\n")


@fault("not-utf8")
async def windows(request: Request, response: Response) -> None:
    await response.head()
    async for number, _ in numbers(request.cursor):
        await response.body(f"id: {number}\ndata: caf\xe9 {number}\n\n".encode("latin-1"))


@fault("not-utf8")
async def java(request: Request, response: Response) -> None:
    await response.head()
    async for _, block in numbers(request.cursor):
        await response.body(block.encode("utf-16-be"))


@fault("event-error")
async def named_error(request: Request, response: Response) -> None:
    await response.head()
    async for number, block in numbers(request.cursor):
        await response.body(block if number % 3 else block.replace("data", "event: error\ndata"))


@fault("id-null")
async def null_id(request: Request, response: Response) -> None:
    await response.head()
    async for number, block in numbers(request.cursor):
        await response.body(block if number % 3 else block.replace("id: ", "id: \0"))


async def numbered_after(opening: str, request: Request, response: Response) -> None:
    await response.head()
    await response.body(opening)
    async for _, block in numbers(request.cursor):
        await response.body(block)


@fault("bad-retry")
async def words_for_retry(request: Request, response: Response) -> None:
    await numbered_after("retry: 3s\n\n", request, response)


@fault("retry-storm")
async def at_once(request: Request, response: Response) -> None:
    await numbered_after("retry: 10\n\n", request, response)


@fault("retry-long")
async def seconds_times_a_million(request: Request, response: Response) -> None:
    await numbered_after("retry: 3000000000\n\n", request, response)


@fault("head-hangs")
async def streams_to_head(request: Request, response: Response) -> None:
    if request.method == "HEAD":
        await asyncio.sleep(3600)
    await healthy(request, response)


@fault("head-hangs")
async def goes_on_after_head(request: Request, response: Response) -> None:
    if request.method == "HEAD":
        await response.raw(f"HTTP/1.1 200 OK\r\n{GOOD}\r\n".encode())
        await asyncio.sleep(3600)
    await healthy(request, response)


@fault("head-late")
async def no_answer_to_a_reconnect(request: Request, response: Response) -> None:
    if request.cursor is not None:
        await asyncio.sleep(3600)
    await healthy(request, response)


@fault("cors-credentials")
async def any_origin(request: Request, response: Response) -> None:
    await response.head(headers=GOOD + "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n")
    async for _, block in numbers(request.cursor):
        await response.body(block)


@fault("no-heartbeat")
async def silent(request: Request, response: Response) -> None:
    await response.head()
    if request.method != "HEAD":
        await response.body("retry: 2000\n\n" if request.cursor else "retry: 2000\n\nid: 1\ndata: x\n\n")
        await asyncio.sleep(3600)


@contextmanager
def serving(serve: Fault, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server on a free port, in a thread; gives the stream's address."""
    loop = asyncio.new_event_loop()
    ready: list[str] = []
    started = threading.Event()
    count = 0
    answering: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        task = asyncio.current_task()
        assert task is not None
        answering.add(task)
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in lines[1:] if line)
            request = Request(lines[0].split()[0], {name.lower(): value.strip() for name, _, value in pairs}, count)
            count += 1
            await serve(request, Response(writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # the end of the server; asyncio's streams would log it
        finally:
            answering.discard(task)
            writer.transport.abort()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
        ready.append(f"{'http' if tls is None else 'https'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/events")
        started.set()
        await stop.wait()
        server.close()
        for task in list(answering):
            task.cancel()
        await asyncio.gather(*answering)
        await asyncio.sleep(0)  # for the transports to close

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    started.wait(10)
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
