"""Noticing that a client has left, without a task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from newswire.delivery.fast.watch_uvicorn import Watch


@pytest.mark.anyio
@pytest.mark.parametrize("stopped", [False, True])
async def test_a_watch_that_is_stopped_as_its_receive_wakes_up_ends_quietly(stopped: bool) -> None:
    """What wakes up the server's receive may come in the same turn as the stream's end: no callback runs then."""
    loop = asyncio.get_running_loop()
    failed: list[Any] = []
    loop.set_exception_handler(lambda _, context: failed.append(context))
    woken: asyncio.Future[None] = loop.create_future()
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await woken
        return {"type": "http.disconnect"}

    watch = Watch(receive, gone.set, None)
    woken.set_result(None)
    if stopped:
        watch.stop()
    for _ in range(3):
        await asyncio.sleep(0)
    assert failed == []
    assert gone.is_set() is not stopped
    watch.stop()
