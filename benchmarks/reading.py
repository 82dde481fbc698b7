"""Reading what is stored: the CPU that each client takes for an event, beside the clients that Python has.

All clients read the same 100,000 events of 200 bytes in turns, in this process, from the request to the last event. CPU
is this process's own, all threads. The server is another process that costs next to nothing, so that the client
decides the pace.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import aiohttp
import httpx
import httpx2
import httpx_sse
import requests
import sseclient
from ld_eventsource import SSEClient
from ld_eventsource.async_client import AsyncSSEClient

from benchmarks.processes import Failed, python, serving
from benchmarks.report import Cell, Say, Size, Table, median, spread, times
from newswire.client import AsyncEventSource, EventSource

TITLE: Final = "Reading"
_BYTES: Final = 200


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about half a minute in full."""
    events, rounds = size.count(100_000, 100_000, 200), size.count(9, 5, 1)
    with serving(python("benchmarks.servers.stored", "{port}", str(events), str(_BYTES))) as server:
        url = f"http://127.0.0.1:{server.port}/events"
        return [
            _table(name, contenders, url, events, rounds, say)
            for name, contenders in (("a plain loop", _SYNC), ("an event loop", _ASYNC))
        ]


def _table(name: str, contenders: dict[str, Callable[[], Any]], url: str, events: int, rounds: int, say: Say) -> Table:
    cpu: dict[str, list[float]] = {each: [] for each in contenders}
    rate: dict[str, list[float]] = {each: [] for each in contenders}
    for number in range(rounds + 1):
        say(f"reading in {name}, round {number} of {rounds}")
        for each, make in contenders.items():
            seconds, processor = _measure(make(), url, events)
            if number:  # the first round warms up
                cpu[each].append(processor / events * 1e6)
                rate[each].append(events / seconds / 1e3)
    peers = [each for each in contenders if not each.startswith("newswire")]
    least = min(median(cpu[each]) or 0.0 for each in peers)
    fastest = max(median(rate[each]) or 0.0 for each in peers)
    rows: list[list[Cell]] = [
        [
            each,
            median(cpu[each]),
            spread(cpu[each]),
            times(median(cpu[each]), least),
            median(rate[each]),
            times(median(rate[each]), fastest),
        ]
        for each in contenders
    ]
    columns = (
        "client",
        "CPU, µs an event",
        "rounds",
        "times the best peer",
        "thousand events/s",
        "times the best peer",
    )
    notes = (
        "Each reads the same stored events over HTTP/1.1 from one server, with its defaults; each event has an id.",
    )
    return Table(f"{events:,} stored events of {_BYTES} bytes, read in {name}", columns, rows, notes)


def _measure(read: Any, url: str, events: int) -> tuple[float, float]:
    """The seconds and the seconds of CPU of one client."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    last = read(url, events)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if not last.startswith(f"{events - 1:07d} "):
        raise Failed(f"a client read other events than were stored: the last one is {last[:20]!r}")
    return wall, cpu


# -- clients: each reads so many events, and returns the data of the last


def _count(events: Iterator[Any], many: int) -> str:
    for event in events:
        many -= 1
        if not many:
            return str(event.data)
    raise Failed("a stream ended too early")


async def _count_async(events: AsyncIterator[Any], many: int) -> str:
    async for event in events:
        many -= 1
        if not many:
            return str(event.data)
    raise Failed("a stream ended too early")


def _newswire(url: str, many: int) -> str:
    with EventSource(url) as source:
        return _count(iter(source), many)


def _launchdarkly(url: str, many: int) -> str:
    with SSEClient(url) as client:
        return _count(iter(client.events), many)


def _httpx_sse(url: str, many: int) -> str:
    with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
        return _count(source.iter_sse(), many)


def _httpx2(url: str, many: int) -> str:
    with httpx2.Client() as client, client.stream("GET", url) as response:
        return _count(iter(httpx2.EventSource(response)), many)


def _sseclient(url: str, many: int) -> str:
    with requests.get(url, stream=True, headers={"accept": "text/event-stream"}, timeout=60) as response:
        return _count(sseclient.SSEClient(response.iter_content(65536)).events(), many)


async def _async_newswire(url: str, many: int) -> str:
    async with AsyncEventSource(url) as source:
        return await _count_async(aiter(source), many)


async def _newswire_on_aiohttp(url: str, many: int) -> str:
    async with aiohttp.ClientSession() as session, AsyncEventSource(url, client=session) as source:
        return await _count_async(aiter(source), many)


async def _async_launchdarkly(url: str, many: int) -> str:
    async with AsyncSSEClient(url) as client:
        return await _count_async(aiter(client.events), many)


async def _async_httpx_sse(url: str, many: int) -> str:
    async with httpx.AsyncClient() as client, httpx_sse.aconnect_sse(client, "GET", url) as source:
        return await _count_async(source.aiter_sse(), many)


async def _async_httpx2(url: str, many: int) -> str:
    async with httpx2.AsyncClient() as client, client.stream("GET", url) as response:
        return await _count_async(aiter(httpx2.EventSource(response)), many)


def _in_loop(read: Any) -> Callable[[], Any]:
    return lambda: lambda url, many: asyncio.run(read(url, many))


_SYNC: Final[dict[str, Callable[[], Any]]] = {
    "newswire: EventSource": lambda: _newswire,
    "LaunchDarkly": lambda: _launchdarkly,
    "httpx-sse": lambda: _httpx_sse,
    "httpx2": lambda: _httpx2,
    "requests, sseclient-py": lambda: _sseclient,
}
_ASYNC: Final[dict[str, Callable[[], Any]]] = {
    "newswire: AsyncEventSource": _in_loop(_async_newswire),
    "newswire, on aiohttp": _in_loop(_newswire_on_aiohttp),
    "LaunchDarkly": _in_loop(_async_launchdarkly),
    "httpx-sse": _in_loop(_async_httpx_sse),
    "httpx2": _in_loop(_async_httpx2),
}
