"""What the Python servers under test share: the timer that publishes, the watch over the loop, and the routes to them.

Publishing is driven from inside the server, in the same way in each, so that a figure holds the cost of fan-out and
not that of receiving publishes over HTTP.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

Publish: TypeAlias = Callable[[list[str]], Awaitable[None]]
Look: TypeAlias = Callable[[], dict[str, Any]]

_TICK: Final = 0.002  # seconds between two looks at the clock: how finely stalls are seen


def stamped(size: int) -> str:
    """An event's data: the time, then dots up to `size` bytes."""
    return f"t={time.monotonic_ns():019d} ".ljust(size, ".")


_PRODUCTS: Final = ("Wireless keyboard", "USB-C cable, 2 m", "Desk lamp", "Notebook, dotted, A5", "Monitor arm")
_NAMES: Final = ("Ada Lovelace", "Grace Hopper", "Alan Turing", "Katherine Johnson", "Edsger Dijkstra")


def order(size: int) -> str:
    """An event's data as JSON of about `size` bytes: an order with as many items as go in, no two alike."""
    name = random.choice(_NAMES)
    body: dict[str, Any] = {
        "stamp": f"t={time.monotonic_ns():019d} ",
        "id": str(uuid.UUID(int=random.getrandbits(128))),
        "type": "order.updated",
        "customer": {"id": random.randrange(10**6), "name": name, "email": f"{name.split()[0].lower()}@example.org"},
        "status": random.choice(("paid", "packed", "shipped")),
        "items": [],
    }
    while len(text := json.dumps(body)) < size - 60:
        item = {"sku": f"SKU-{random.randrange(10**6):06d}", "name": random.choice(_PRODUCTS)}
        amount = {"quantity": random.randrange(1, 9), "price": random.randrange(100, 99999) / 100, "currency": "EUR"}
        body["items"].append({**item, **amount})
    return text


KINDS: Final = {"dots": stamped, "order": order}


class Stalls:
    """How long the event loop is blocked.

    A timer asks to be called every 2 ms; how much later it is called is a stall. The thread's CPU time in between
    tells what of it was our own work, and what the machine's: another process on the same core looks like a stall too.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self.clear()

    def clear(self) -> None:
        """Start again from zero."""
        self.wall: list[float] = []
        self.longest_cpu = 0.0
        self._due = time.perf_counter() + _TICK
        self._cpu = time.thread_time()
        if self._handle is None:
            self._handle = self._loop.call_later(_TICK, self._look)

    def stop(self) -> None:
        """Cost nothing any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        now, cpu = time.perf_counter(), time.thread_time()
        self.wall.append(now - self._due)
        self.longest_cpu = max(self.longest_cpu, cpu - self._cpu)
        self._due, self._cpu = now + _TICK, cpu
        self._handle = self._loop.call_later(_TICK, self._look)

    def summary(self) -> dict[str, float]:
        """In milliseconds."""
        wall = sorted(self.wall) or [0.0]
        return {
            "longest": wall[-1] * 1e3,
            "p99": wall[int(0.99 * (len(wall) - 1))] * 1e3,
            "longest_cpu": self.longest_cpu * 1e3,
            "looks": len(wall),
        }


class Control:
    """The publisher of one server.

    Args:
        publish: publishes a few data at once.
        look: what only this server can tell; at least `subscribers`.
    """

    def __init__(self, publish: Publish, look: Look) -> None:
        self._publish = publish
        self._look = look
        self._task: asyncio.Task[None] | None = None
        self._stalls: Stalls | None = None
        self.published = 0

    def routes(self) -> list[Route]:
        """The routes to it."""
        return [Route("/start", self._start), Route("/stats", self._stats)]

    async def _start(self, request: Request) -> JSONResponse:
        query = request.query_params
        if self._task is not None and not self._task.done():
            return JSONResponse({"error": "publishing already"}, 409)
        if query.get("stalls"):
            self._stalls = self._stalls or Stalls()
            self._stalls.clear()
        self._task = asyncio.create_task(
            self._run(
                rate=float(query["rate"]),
                events=int(query["events"]),
                size=int(query["size"]),
                batch=int(query.get("batch", "1")),
                kind=KINDS[query.get("kind", "dots")],
            )
        )
        return JSONResponse({"started": True})

    async def _run(
        self, *, rate: float, events: int, size: int, batch: int, kind: Callable[[int], str] = stamped
    ) -> None:
        """Publish on schedule; what is late is published at once, so that the rate holds."""
        begun = time.monotonic()
        done = 0
        while done < events:
            wait = begun + done / rate - time.monotonic()
            await asyncio.sleep(max(0.0, wait))
            now = min(batch, events - done)
            await self._publish([kind(size) for _ in range(now)])
            done += now
            self.published += now

    async def _stats(self, request: Request) -> JSONResponse:
        return JSONResponse(
            {
                **self._look(),
                "published": self.published,
                "publishing": self._task is not None and not self._task.done(),
                "failed": repr(self._task.exception())
                if self._task and self._task.done() and self._task.exception()
                else None,
                "stalls": self._stalls.summary() if self._stalls else None,
            }
        )
