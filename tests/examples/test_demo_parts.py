"""The parts of the demo that could lose or double something: the publishers' outbox, and the follower of a log file."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tarfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from examples.demo.job import pack
from examples.demo.logfile import Tail
from examples.demo.outbox import Outbox

from newswire import Hub
from newswire.server.app import create_app
from newswire.server.settings import Settings

pytestmark = pytest.mark.anyio


class LosesAnswers:
    """An application that carries a request out, then drops the connection without an answer, as a kill may do."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.lose = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or self.lose == 0:
            await self.app(scope, receive, send)
            return
        self.lose -= 1

        async def nowhere(message: Any) -> None:
            pass

        await self.app(scope, receive, nowhere)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"half an answer", "more_body": True})
        raise ConnectionAbortedError


@asynccontextmanager
async def serving(hub: Hub) -> AsyncIterator[tuple[httpx2.AsyncClient, LosesAnswers]]:
    """The server on a free port, and a client for it."""
    app = LosesAnswers(create_app(Settings(log="memory://"), hub))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    server.install_signal_handlers = lambda: None  # type: ignore[method-assign]
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        yield client, app
    server.should_exit = True
    await running


async def numbers(client: httpx2.AsyncClient, channel: str) -> list[int]:
    """The numbers of a channel's stored events."""
    page = (await client.get(f"/channels/{channel}/events?limit=1000")).json()
    return [json.loads(event["data"])["n"] for event in page["events"]]


async def test_a_lost_answer_doubles_nothing() -> None:
    """What was stored though its answer was lost is found in the log, and not sent again; the rest is."""
    async with serving(Hub("memory://")) as (client, app):
        outbox = Outbox(client, "one")
        publishing = asyncio.create_task(outbox.publish())
        outbox.put("tick")
        await outbox.flush()
        app.lose = 2
        for _ in range(500):  # more than a batch
            outbox.put("tick")
        await outbox.flush()
        publishing.cancel()
        assert await numbers(client, "one") == list(range(1, 502))
        assert outbox.found > 0
        assert outbox.sent + outbox.found == 501


async def test_the_very_first_answer_is_lost() -> None:
    """Also before anything was confirmed, the outbox knows where in the log to look."""
    async with serving(Hub("memory://")) as (client, app):
        outbox = Outbox(client, "one")
        app.lose = 1
        outbox.put("tick")
        publishing = asyncio.create_task(outbox.publish())
        await outbox.flush()
        publishing.cancel()
        assert await numbers(client, "one") == [1]


async def test_a_full_outbox_refuses_and_counts() -> None:
    """Past its limit an outbox takes nothing, and what it refused has no number that would be missed."""
    async with serving(Hub("memory://")) as (client, _):
        outbox = Outbox(client, "one", limit=3)
        assert [outbox.put("tick") for _ in range(5)] == [True, True, True, False, False]
        assert outbox.refused == 2
        publishing = asyncio.create_task(outbox.publish())
        await outbox.flush()
        assert outbox.put("tick")
        await outbox.flush()
        publishing.cancel()
        assert await numbers(client, "one") == [1, 2, 3, 4]


def test_a_tail_follows_rotation(tmp_path: Path) -> None:
    """The renamed file is read to its end before the new one is begun, also in the middle of a line."""
    path = tmp_path / "a.log"
    path.write_text("before\n")
    tail = Tail(path)
    with path.open("a") as file:
        file.write("one\ntw")
    assert tail.lines() == ["one"]
    with path.open("a") as file:
        file.write("o\nthree\n")
    path.rename(tmp_path / "a.log.1")
    path.write_text("four\n")
    assert tail.lines() == ["two", "three", "four"]
    tail.close()


def test_a_tail_waits_for_its_file_and_starts_again_when_it_is_cut(tmp_path: Path) -> None:
    """A file that is not there yet is read from its start; so is one that became shorter."""
    path = tmp_path / "a.log"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_text("one\ntwo\n")
    assert tail.lines() == ["one", "two"]
    path.write_text("new\n")
    assert tail.lines() == ["new"]
    path.unlink()
    assert tail.lines() == []
    tail.close()


def test_the_job_packs_what_it_says(tmp_path: Path) -> None:
    """The archive holds the files, and the hash is of their bytes in order."""
    files = [tmp_path / name for name in ("a.py", "b.py")]
    for number, path in enumerate(files):
        path.write_bytes(bytes([number]) * 1000)
    target = tmp_path / "out.tar.gz"
    result = pack(files, target, lambda state: None, threading.Event())
    assert result is not None
    assert result["sha256"] == hashlib.sha256(b"\0" * 1000 + b"\1" * 1000).hexdigest()
    assert result["packed"] == target.stat().st_size
    with tarfile.open(target) as archive:
        assert [Path(name).name for name in archive.getnames()] == ["a.py", "b.py"]


def test_a_stopped_job_leaves_no_archive(tmp_path: Path) -> None:
    """Stopping ends the job at the next file."""
    stop = threading.Event()
    stop.set()
    (tmp_path / "a.py").write_bytes(b"x" * 100)
    assert pack([tmp_path / "a.py"], tmp_path / "out.tar.gz", lambda state: None, stop) is None
    assert not (tmp_path / "out.tar.gz").exists()
