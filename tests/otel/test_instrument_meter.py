"""A hub's numbers as OpenTelemetry metrics."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from newswire import Hub
from newswire.otel import instrument
from newswire.runs import Runs

pytestmark = pytest.mark.anyio


def collected(reader: InMemoryMetricReader) -> dict[tuple[str, ...], float]:
    """Every point, by its metric's name and its attribute."""
    data: Any = reader.get_metrics_data()
    [resource] = data.resource_metrics
    [scope] = resource.scope_metrics
    return {
        (metric.name, *map(str, (point.attributes or {}).values())): point.value
        for metric in scope.metrics
        for point in metric.data.data_points
    }


async def test_numbers_are_read_when_they_are_collected() -> None:
    """Those of the hub and of its runs; a hub that is not open has them too."""
    reader = InMemoryMetricReader()
    hub: Hub = Hub("memory://")
    runs = Runs(hub, public=True)
    instrument(hub, runs=runs, meter_provider=MeterProvider([reader]))
    assert collected(reader)["newswire.log.up",] == 0
    async with hub:
        await hub.publish("a", "1")
        subscription = aiter(hub.subscribe("a", start="earliest"))
        await anext(subscription)
        gap = aiter(hub.subscribe("a", after="garbage"))
        await anext(gap)

        async def produce(run: Any) -> None:
            await run.write("x")

        run = await runs.start("chat.1", produce)
        assert (await run.wait()).reason == "done"
        async with asyncio.timeout(20):
            while not runs.stats.ended:
                await asyncio.sleep(0.005)
        found = collected(reader)
        assert found["newswire.log.up",] == 1
        assert found["newswire.delivered",] >= 2
        assert found["newswire.gaps", "invalid"] == 1
        assert found["newswire.streams",] == 0
        assert found["newswire.runs.started",] == 1
        assert found["newswire.runs.ended", "done"] == 1
        await subscription.aclose()
        await gap.aclose()
        await runs.close(1.0)
