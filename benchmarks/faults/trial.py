"""A trial: the load, one fault after the other while it runs, and the judgement.

The next fault comes when all have recovered from the one before and a moment has passed; the last seconds are quiet.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Final

import aiohttp

from benchmarks.faults.cluster import Cluster
from benchmarks.faults.publishers import Publisher
from benchmarks.faults.readers import Reader, total
from benchmarks.processes import Failed
from benchmarks.report import Say

_PATIENCE: Final = 45.0  # seconds until a trial is given up whose readers or publishers don't recover
_LOOK_SECONDS: Final = 0.01
_ALL_EVERY: Final = 50  # of so many readers one reads all channels
_DOOR_EVERY: Final = 3  # of so many readers one comes through a proxy
_ROAM_EVERY: Final = 5  # of so many readers one goes to the other server after each break


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a trial is.

    Attributes:
        seconds: how long publishers publish, at least.
        rate: events a second, of all publishers.
        readers: at each server.
        publishers, channels: in all.
        outage: seconds for which something is away.
        cuts: seconds in which connections are cut.
        quiet: seconds between a recovery and the next fault.
    """

    seconds: float
    rate: float
    readers: int
    publishers: int
    channels: int
    outage: float
    cuts: float
    quiet: float


FULL: Final = Plan(30, 2000, 50, 80, 40, 3, 5, 1.5)
QUICK: Final = Plan(12, 500, 10, 10, 5, 1, 2, 0.5)
SHORT: Final = Plan(6, 100, 6, 8, 4, 0.6, 1, 0.2)
SMOKE: Final = Plan(2, 100, 3, 4, 2, 0.3, 0.5, 0.1)


@dataclass(frozen=True, slots=True)
class Recovery:
    """How one fault went.

    Attributes:
        name: the fault.
        publishing, half, reading: seconds until the last publisher went on, half of the readers, and the last reader.
        errors: answers that were no acknowledgement, or did not come.
        reconnects: streams that broke.
        gaps: gaps that readers got.
    """

    name: str
    publishing: float
    half: float
    reading: float
    errors: int
    reconnects: int
    gaps: int


@dataclass(frozen=True, slots=True)
class Result:
    """How a trial went.

    Attributes:
        faults: its faults.
        seconds: how long publishers published.
        published: events that were acknowledged.
        delivered: events that came to readers.
        readers: how many there were.
        lost, doubled, disordered: see `benchmarks.faults.readers.Verdict`.
        wrong: broken promises, in words.
    """

    faults: list[Recovery]
    seconds: float
    published: int
    delivered: int
    readers: int
    lost: int
    doubled: int
    disordered: int
    wrong: list[str]


async def run_trial(kind: str, plan: Plan, say: Say, seed: int = 0) -> Result:
    """Start everything, make trouble, and judge."""
    say(f"{kind}: two servers start")
    cluster = await asyncio.to_thread(Cluster(kind).__enter__)
    try:
        # aiohttp has a pool of 100 connections, unless told otherwise.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            return await _Trial(cluster, plan, say, random.Random(seed)).run(session)
    finally:
        await asyncio.to_thread(cluster.__exit__)


class _Trial:
    def __init__(self, cluster: Cluster, plan: Plan, say: Say, chance: random.Random) -> None:
        self._cluster = cluster
        self._plan = plan
        self._say = say
        self._chance = chance
        self._publishing: list[asyncio.Task[None]] = []
        self.publishers = [self._publisher(number) for number in range(plan.publishers)]
        positions: dict[str, tuple[str, int]] = {}
        self.readers = [
            self._reader(server, number, positions) for server in range(2) for number in range(plan.readers)
        ]

    def _publisher(self, number: int) -> Publisher:
        # Each channel has publishers at both servers.
        plan, server = self._plan, number // self._plan.channels % 2
        ports = [self._cluster.port(server, door=number % 2 == 0)]
        if number % 4 < 2:
            ports.append(self._cluster.port(1 - server, door=False))
        return Publisher(f"p{number}", f"faults.{number % plan.channels}", ports, plan.rate / plan.publishers)

    def _reader(self, server: int, number: int, positions: dict[str, tuple[str, int]]) -> Reader:
        cluster, plan = self._cluster, self._plan
        channel = "faults.*" if number % _ALL_EVERY == 0 else f"faults.{number % plan.channels}"
        publishers = [one for one in self.publishers if channel in ("faults.*", one.channel)]
        port = cluster.port(server, door=number % _DOOR_EVERY == 0)
        if number % _ROAM_EVERY != 1:
            return Reader(f"http://127.0.0.1:{port}/channels/{channel}", publishers, positions)
        ports = cycle([port, cluster.port(1 - server, door=number % _DOOR_EVERY == 0)])
        return Reader(lambda: f"http://127.0.0.1:{next(ports)}/channels/{channel}", publishers, positions)

    async def run(self, session: aiohttp.ClientSession) -> Result:
        plan = self._plan
        opened = asyncio.Semaphore(0)
        reading = [asyncio.create_task(reader.run(session, opened.release)) for reader in self.readers]
        async with asyncio.timeout(_PATIENCE):
            for _ in self.readers:
                await opened.acquire()
        stop = asyncio.Event()
        begun = time.monotonic()
        publishing = self._publishing = [asyncio.create_task(one.run(stop)) for one in self.publishers]
        try:
            faults = [await self._recover(name, fault) for name, fault in self._faults().items()]
            await asyncio.sleep(max(plan.quiet, begun + plan.seconds - time.monotonic()))
            stop.set()
            async with asyncio.timeout(_PATIENCE):
                await asyncio.gather(*publishing)
            seconds = time.monotonic() - begun
            self._say("the last events come")
            for _ in range(round(_PATIENCE / 3 / _LOOK_SECONDS)):  # what is missing then is lost
                if not any(reader.missing() for reader in self.readers):
                    break
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for task in (*publishing, *reading):
                task.cancel()
            await asyncio.wait([*publishing, *reading])
        return self._judge(faults, seconds)

    def _faults(self) -> dict[str, Callable[[], Awaitable[float]]]:
        seconds = self._plan.outage
        return {
            "a server killed (kill -9), and started again": self._kill,
            self._cluster.keeper.outage.format(seconds=seconds): self._stop_log,
            f"a server stopped (SIGSTOP) for {seconds:g} s": self._freeze,
            f"connections cut at random, for {self._plan.cuts:g} s": self._cut,
        }

    # -- faults: each returns when its cause ended

    async def _kill(self) -> float:
        server = self._cluster.servers[0]
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        ended = time.monotonic()
        await asyncio.to_thread(server.start)
        return ended

    async def _stop_log(self) -> float:
        await asyncio.to_thread(self._cluster.keeper.stop)
        await asyncio.sleep(self._plan.outage)
        ended = time.monotonic()
        await asyncio.to_thread(self._cluster.keeper.start)
        return ended

    async def _freeze(self) -> float:
        process = self._cluster.servers[1].process
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._plan.outage)
        finally:
            process.send_signal(signal.SIGCONT)
        return time.monotonic()

    async def _cut(self) -> float:
        proxies = [*self._cluster.doors, *self._cluster.keeper.proxies]
        until = time.monotonic() + self._plan.cuts
        while time.monotonic() < until:
            proxy = self._chance.choice(proxies)
            if self._chance.random() < 0.5:
                proxy.cut_answers = 1  # the request is served, and its answer lost
            else:
                await asyncio.to_thread(proxy.cut)
            await asyncio.sleep(self._chance.uniform(0.05, 0.4))
        for proxy in proxies:
            proxy.cut_answers = 0
        return time.monotonic()

    # -- judgement

    async def _recover(self, name: str, fault: Callable[[], Awaitable[float]]) -> Recovery:
        await asyncio.sleep(self._plan.quiet)
        self._say(name)
        errors, broken, gaps = self._counts()
        ended = await fault()
        publishing = half = reading = 0.0
        deadline = time.monotonic() + _PATIENCE
        while not publishing or not reading:
            if failed := next((reader.failure for reader in self.readers if reader.failure), None):
                raise Failed(f"a reader ended: {failed!r}\n{self._cluster.said()}") from failed
            for task in self._publishing:
                if task.done():
                    task.result()
            now = time.monotonic()
            if not publishing and all(publisher.acknowledged_of > ended for publisher in self.publishers):
                publishing = now - ended
            behind = sum(reader.newest <= ended for reader in self.readers)
            if not half and behind <= len(self.readers) / 2:
                half = now - ended
            if not reading and not behind:
                reading = now - ended
            if now > deadline:
                slow = sum(publisher.acknowledged_of <= ended for publisher in self.publishers)
                raise Failed(
                    f"{name}: after {_PATIENCE:g} s {slow} publishers and {behind} readers have not recovered\n"
                    f"{self._cluster.said()}"
                )
            await asyncio.sleep(_LOOK_SECONDS)
        after = self._counts()
        self._say(f"… publishing after {publishing:.2f} s, reading after {reading:.2f} s")
        return Recovery(name, publishing, half, reading, after[0] - errors, after[1] - broken, after[2] - gaps)

    def _counts(self) -> tuple[int, int, int]:
        return (
            sum(publisher.errors for publisher in self.publishers),
            sum(reader.broken for reader in self.readers),
            sum(reader.gaps for reader in self.readers),
        )

    def _judge(self, faults: list[Recovery], seconds: float) -> Result:
        verdict = total(self.readers)
        verdict.lost += sum(reader.missing() for reader in self.readers)
        found = {"lost": verdict.lost, "doubled": verdict.doubled, "out of order": verdict.disordered}
        wrong = [f"{count} events {what}" for what, count in found.items() if count]
        return Result(
            faults,
            seconds,
            sum(publisher.acknowledged for publisher in self.publishers),
            sum(reader.delivered for reader in self.readers),
            len(self.readers),
            verdict.lost,
            verdict.doubled,
            verdict.disordered,
            wrong,
        )
