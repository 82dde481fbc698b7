"""The form of `/metrics`."""

from __future__ import annotations

import httpx2
import pytest
from tests.fixtures.prometheus import families, problems
from tests.serving.applications import made

from newswire.serving.metrics import Family, render
from newswire.serving.served_app import SHARED
from newswire.serving.stats import ServerStats

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ["serve", "relay"])
async def test_every_metric_keeps_the_conventions(kind: str) -> None:
    """By the official parser, and the rules of promtool: types, help, base units, `_total`. Each family is there."""
    app = made(kind)
    service = app.state.service
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert list(problems(answer.text)) == []
    there = {family.name for family in families(answer.text)}
    wanted = {f"newswire_{family.name}" for family in (*service.families, *SHARED)}
    assert there == wanted


def test_the_linter_finds_what_is_wrong() -> None:
    """Each slip is one that it names."""
    bad = (
        Family("call_ms", "Calls", "gauge"),
        Family("calls_total", "Calls.", "gauge"),
        Family("wait", "W.", "histogram"),
    )
    stats = ServerStats()
    stats.gauges.update(call_ms=1, calls_total=1)
    found = list(problems(bytes(render(bad, stats).body).decode()))
    assert [one.partition(":")[0] for one in found] == [
        "newswire_call_ms", "newswire_call_ms", "newswire_calls_total", "newswire_wait",
    ]  # fmt: skip


def test_the_values_of_a_label_are_there_before_they_are_counted() -> None:
    """Else a rate would miss the first step."""
    family = Family("ends", "Ends.", labels=("reason",), values=("client", "slow"))
    stats = ServerStats()
    stats.counters["ends slow"] = 2
    text = bytes(render([family], stats).body).decode()
    assert 'newswire_ends_total{reason="client"} 0.0\n' in text
    assert 'newswire_ends_total{reason="slow"} 2.0\n' in text
