"""Several workers on one log, and a server that stops."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from starlette.requests import Request
from tests.fixtures.serve import PATIENCE, Reader, Serve

from newswire.hub.hub import Hub
from newswire.server.app import create_app
from newswire.server.auth import Action, Denied
from newswire.server.settings import Settings


def workers_seen(server: Serve, count: int) -> dict[str, dict[str, object]]:
    """The numbers, as `count` different workers tell them: each new connection may meet another one."""
    seen: dict[str, dict[str, object]] = {}
    deadline = time.monotonic() + PATIENCE
    while len(seen) < count:
        assert time.monotonic() < deadline, f"only {len(seen)} workers answer"
        numbers = httpx2.get(f"{server.url}/console/stats").json()
        seen[numbers["worker"]] = numbers
    return seen


@pytest.mark.slow
def test_workers_share_the_log_and_their_numbers(tmp_path: Path) -> None:
    """Thirty streams over two workers all get one event; each worker tells the numbers of both."""
    with Serve(tmp_path, "--workers", "2") as server:
        pids = {worker.partition("-")[0] for worker in workers_seen(server, 2)}
        assert len(pids) == 2
        with ExitStack() as stack:
            readers = [stack.enter_context(Reader(f"{server.url}/channels/shared")) for _ in range(30)]
            for reader in readers:
                reader.opened()
            id = server.publish("shared", "to all")
            assert [reader.read(1)[0].id for reader in readers] == [id] * 30
            deadline = time.monotonic() + PATIENCE
            while any(numbers["subscribers"] != 30 for numbers in workers_seen(server, 2).values()):
                assert time.monotonic() < deadline
    assert [name for name in os.listdir(tmp_path) if name.startswith("newswire-")] == []


@pytest.mark.slow
def test_a_stop_says_goodbye_to_every_stream_in_time(tmp_path: Path) -> None:
    """Sixty streams, half of them busy: each gets what was stored, a goodbye and a time to come back; then the end."""
    with Serve(tmp_path, "--grace", "8") as server, ExitStack() as stack:
        busy = [stack.enter_context(Reader(f"{server.url}/channels/busy?from=earliest")) for _ in range(30)]
        idle = [stack.enter_context(Reader(f"{server.url}/stream?channel=idle.*&channel=x")) for _ in range(30)]
        for reader in busy + idle:
            reader.opened()
        ids = [server.publish("busy", "x") for _ in range(20)]
        began = time.monotonic()
        with ThreadPoolExecutor(60) as threads:
            ended = [threads.submit(list, reader.rest()) for reader in busy + idle]
            server.process.send_signal(signal.SIGTERM)
            events = [future.result(PATIENCE) for future in ended]
        assert server.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 8
    for got in events[:30]:
        assert [event.id for event in got[:-1]] == ids
    waits = {got[-1].json()["retry"] for got in events}
    assert {got[-1].event for got in events} == {"newswire.goodbye"}
    assert len(waits) > 20
    assert all(1500 <= wait <= 4500 for wait in waits)


@pytest.mark.slow
def test_a_stop_answers_what_is_not_whole(tmp_path: Path) -> None:
    """A body that does not come gets a 503 in time, and the log no traceback for each."""
    head = b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"
    with Serve(tmp_path, "--grace", "2") as server, ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE)) for _ in range(3)
        ]
        for client in clients:
            client.sendall(head)
        server.publish("a", "the others are on their way")
        assert server.stop() == 0
        for client in clients:
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b'"code": "stopping"' in answer
    assert "Traceback" not in server.stderr()


@pytest.mark.anyio
async def test_a_denied_stream_is_refused_before_its_head() -> None:
    """The authorizer decides with the channels in hand; what it says becomes the status, and nothing is stored."""
    asked: list[tuple[Action, tuple[str, ...]]] = []

    async def authorize(request: Request, action: Action, channels: Sequence[str]) -> None:
        asked.append((action, tuple(channels)))
        if "secret" in channels:
            raise Denied("secret is not for you")
        if action == "publish":
            raise Denied("say who you are", authenticate="Bearer")

    hub = Hub("memory://")
    app = create_app(Settings(log="memory://"), hub, authorize)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client,
    ):
        denied = await client.get("/stream?channel=open&channel=secret")
        assert (denied.status_code, denied.json()["detail"]) == (403, "secret is not for you")
        unknown = await client.post("/channels/open", content=b"x")
        assert (unknown.status_code, unknown.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.get("/channels/open/events")).json()["events"] == []
        assert (await client.get("/channels/secret/events")).status_code == 403
    assert asked[0] == ("subscribe", ("open", "secret"))
    assert [action for action, _ in asked] == ["subscribe", "publish", "read", "read"]
