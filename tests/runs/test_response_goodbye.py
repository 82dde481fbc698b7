"""The goodbye of a run's reader, in every dialect: the `retry:` field is on the wire, drawn around the setting."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from tests.fixtures.asgi_request import Client

from newswire import Hub, StreamOptions
from newswire.runs import Runs

pytestmark = pytest.mark.anyio
SCOPE = {"type": "http", "method": "GET", "http_version": "1.1", "headers": [], "query_string": b"", "path": "/"}
DIALECTS = [None, "native", "ai-sdk", "ag-ui", "openai-chat", "openai-responses", "anthropic"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("retry", [60_000, None])
async def test_readers_come_back_at_different_times(dialect: str | None, retry: int | None) -> None:
    """When the server stops, each reader's last `retry:` lies around the stream's own, and no two agree."""
    hub = Hub()
    runs = Runs(hub, public=True, stream=StreamOptions(retry=retry))
    more = asyncio.Event()

    async def words() -> AsyncIterator[str]:
        yield "hello"
        await more.wait()

    run = await runs.start("answer", words())
    clients = [Client() for _ in range(12)]
    tasks = []
    for client in clients:
        response = runs.response(Request(SCOPE), run.id, dialect=dialect)
        tasks.append(asyncio.create_task(response(SCOPE, client.receive, client.send)))  # type: ignore[arg-type]
        await client.until(lambda client=client: "hello" in client.text)
    await hub.shutdown()
    await asyncio.gather(*tasks)
    waits = [int(re.findall(r"^retry: (\d+)$", client.text, re.MULTILINE)[-1]) for client in clients]
    middle = retry or 3000
    assert all(0.5 * middle <= wait <= 1.5 * middle for wait in waits)
    assert len(set(waits)) > 6
    for client in clients:
        last = client.text.rstrip("\n").split("\n\n")[-1]
        if dialect in (None, "native"):
            assert "event: newswire.goodbye" in last
        for block in client.text.split("\n\n")[1:]:
            assert "retry:" not in block or "data:" in block
    more.set()
    await runs.close()
