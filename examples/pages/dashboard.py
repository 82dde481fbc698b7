"""A dashboard of a wind park: 24 turbines and the park, 25 channels on one stream with one cursor.

The channel of a turbine has a state (`latest`): a page that comes, returns or is slow gets the newest value of each.
The channel of the park has a history, for the chart: `newswire run examples.pages.dashboard:app`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import sin
from pathlib import Path
from random import Random
from time import time
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from newswire import EventSourceResponse, Hub, Pattern, Retention, StreamOptions, channel, last_event_id
from newswire.browser import FILES

TURBINES = [f"{row}{number}" for row in "ABCD" for number in range(1, 7)]

hub = Hub("sqlite:///dashboard.db", latest=["turbine.*"], retention={"park": Retention(max_age=150)})


def measure(random: Random, now: float) -> list[tuple[str, Any]]:
    """What the turbines would report: the wind comes in waves, and some of them stand still."""
    wind = 9 + 3 * sin(now / 23) + 1.5 * sin(now / 7.1)
    batch: list[tuple[str, Any]] = []
    for place, name in enumerate(TURBINES):
        stopped = (place * 37 + int(now / 45) * 11) % 23 < 2
        here = wind + 0.9 * sin(now / 5 + place) + random.gauss(0, 0.25)
        power = 0.0 if stopped else min(4.2, 4.2 * (max(here, 0) / 12.5) ** 3)
        batch.append((channel("turbine", name), {"name": name, "power": round(power, 2), "stopped": stopped}))
    total = sum(value["power"] for _, value in batch)
    return [*batch, ("park", {"time": round(now * 1000), "power": round(total, 1), "wind": round(wind, 1)})]


async def work() -> None:
    """Publish twice a second, or as often as the environment says. Each batch is stored as a whole, or not at all."""
    random = Random(1)
    seconds = float(os.environ.get("DASHBOARD_SECONDS", "0.5"))
    due = time()
    while True:
        await hub.publish_many(measure(random, time()))
        due = max(due + seconds, time())
        await asyncio.sleep(due - time())


async def events(request: Request) -> EventSourceResponse:
    subscription = hub.subscribe(Pattern("turbine.*"), "park", after=last_event_id(request), start="earliest")
    return EventSourceResponse(subscription, options=StreamOptions(retry=500))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with hub:
        working = asyncio.create_task(work())
        yield
        working.cancel()


app = Starlette(
    routes=[
        Route("/", lambda request: FileResponse(Path(__file__).with_suffix(".html"))),
        Route("/events", events),
        *(Route(path, file) for path, file in FILES.items()),
    ],
    lifespan=lifespan,
)
