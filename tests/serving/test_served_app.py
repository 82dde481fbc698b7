"""What every served application answers to its operator."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from tests.serving.applications import made

from newswire.log.histogram import Histogram
from newswire.serving.served_app import ServedApp
from newswire.serving.stats import ServerStats, WorkerStats

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ["serve", "relay"])
async def test_health_and_metrics_have_one_shape(kind: str) -> None:
    """Live, ready with the newest position, and once the server stops a problem that says so; metrics with the rest."""
    app = made(kind)
    service = app.state.service
    assert isinstance(service, ServedApp)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        async with app.router.lifespan_context(app):
            assert (await client.get("/health/live")).json() == {"status": "live"}
            ready = await client.get("/health/ready")
            assert ready.json() == {"status": "ready", "latest": f"{service.hub.epoch}-0", "log": "up", "lag": 0}
            assert ready.headers["cache-control"] == "no-store"
            metrics = (await client.get("/metrics")).text
            assert "newswire_workers 1.0" in metrics
            assert "newswire_log_offset 0.0" in metrics
        stopping = await client.get("/health/ready")
    assert (stopping.status_code, stopping.json()["code"]) == (503, "stopping")


def test_the_stats_of_workers_add_up(tmp_path: Path) -> None:
    """Counters and histograms of all workers, gauges of those alive."""
    folder = WorkerStats(tmp_path)
    stats = ServerStats(histograms={"seconds": Histogram((1.0, 2.0))})
    stats.counters["calls a 200"] = 2
    stats.counters["seconds"] = 0.5
    stats.gauges["open"] = 3
    stats.histograms["seconds"].observe(1.5)
    folder.write(stats, {"news": 1})
    assert list(folder.others()) == []
    [(found, channels, alive)] = WorkerStats(tmp_path).others()
    assert (found, channels, alive) == (stats, {"news": 1}, True)
    found.add(stats, alive=False)
    for hours in (-1, 1):  # one that is gone, and one that has gone before the clock was set back
        then = time.time() + 3600 * hours
        os.utime(next(tmp_path.glob("*.json")), (then, then))
        assert [alive for _, _, alive in WorkerStats(tmp_path).others()] == [False]
    assert found.counters == {"calls a 200": 4, "seconds": 1.0}
    assert found.gauges == {"open": 3}
    assert found.histograms["seconds"] == Histogram((1.0, 2.0), [0, 2, 0], 3.0)


FORKED = """
import asyncio, os, sys
from pathlib import Path
from newswire.server import Settings, create_app

app = create_app(Settings(log="memory://"), stats_folder=Path(sys.argv[1]))

async def serve():
    async with app.router.lifespan_context(app):
        os.write(1, f"{app.state.service.workers.worker} {app.state.service.calls.workers()[0]}\\n".encode())

for _ in range(2):
    if os.fork() == 0:
        asyncio.run(serve())
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_workers_that_share_a_made_application_have_names_of_their_own(tmp_path: Path) -> None:
    """As with gunicorn --preload: else each would write over the stats of the other, and take its socket."""
    found = subprocess.run([sys.executable, "-c", FORKED, str(tmp_path)], capture_output=True, text=True, timeout=30)
    names = found.stdout.split()
    assert len(names) == 4, found.stderr
    assert names[0] == names[1] != names[2] == names[3]
