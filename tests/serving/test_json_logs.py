"""Logs as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fixtures.serve import Serve

from newswire.serving.json_logs import JsonFormatter, RequestIds, request_id

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlCg"


def line(message: str, *args: object, exc_info: Any = None) -> dict[str, Any]:
    record = logging.LogRecord("newswire.server", logging.WARNING, "", 1, message, args, exc_info)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_on_a_server(tmp_path: Path, workers: str) -> None:
    """Every line is an object; a request's has its id and no secret; only a trusted proxy may give ids."""
    flags = ("--access-log", "--log-format", "json", "--workers", workers)
    with Serve(tmp_path, *flags, "--trusted-proxy", "127.0.0.1") as server:
        target = "/channels/news/events?limit=5&after=zzz-1&token=SECRET"
        given = {"x-request-id": "from-the-proxy.1", "x-forwarded-for": "10.1.2.3"}
        assert httpx2.get(server.url + target, headers=given).headers["x-request-id"] == "from-the-proxy.1"
        other = httpx2.get(f"{server.url}/channels/other/events", headers={"x-request-id": "no id, but a sentence"})
        published = httpx2.post(f"{server.url}/channels/news", content=b"x")
        with httpx2.stream("GET", f"{server.url}/channels/news?from=earliest") as stream:
            assert len(stream.headers["x-request-id"]) == 16
            assert any("data: x" in line for line in stream.iter_lines())
        server.stop()
    text = server.stderr()
    lines = [json.loads(one) for one in text.splitlines()]
    assert (tmp_path / "stdout").read_text() == ""
    assert "SECRET" not in text
    assert "zzz-1" not in text
    assert all(one["time"].endswith("Z") and one["level"] and one["logger"] and one["message"] for one in lines)
    assert any(server.url in one["message"] for one in lines)
    requests = {(one["method"], one["path"]): one for one in lines if one["logger"] == "uvicorn.access"}
    seen = requests["GET", target.replace("zzz-1", "[hidden]").replace("SECRET", "[hidden]")]
    assert (seen["request_id"], seen["client"], seen["status"]) == ("from-the-proxy.1", "10.1.2.3:0", 400)
    made = requests["GET", "/channels/other/events"]["request_id"], requests["POST", "/channels/news"]["request_id"]
    assert made == (other.headers["x-request-id"], published.headers["x-request-id"])
    assert len(set(made)) == 2
    assert all(len(id_) == 16 for id_ in made)


@pytest.mark.anyio
async def test_an_id_belongs_to_the_task_of_its_request() -> None:
    """What a request starts beside itself has no id of it; a stranger can't choose one."""
    seen: list[str | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(request_id())
        asyncio.get_running_loop().call_soon(lambda: seen.append(request_id()))
        seen.append(await asyncio.create_task(other()))

    async def other() -> str | None:
        return request_id()

    async def ask(trusted: list[str], client: tuple[str, int] | None, id_: bytes = b"given") -> str | None:
        seen.clear()
        scope = {"type": "http", "headers": [(b"x-request-id", id_)], "client": client}
        await asyncio.create_task(RequestIds(app, trusted)(scope, None, None))  # type: ignore[arg-type]
        assert seen[1:] == [None, None]
        return seen[0]

    assert await ask(["10.0.0.0/8"], ("10.1.2.3", 1)) == "given"
    assert await ask(["*"], None) == "given"
    assert await ask(["2001:db8::/32"], ("2001:db8::1", 1)) == "given"
    for trusted, client in (([], ("10.1.2.3", 1)), (["10.0.0.0/8"], ("11.1.2.3", 1)), (["::/0"], ("unix", 1))):
        assert len(await ask(trusted, client) or "") == 16
    for bad in (b"", b"a b", b"x" * 129, b"\xff", b'"', b"a\x1b"):
        assert len(await ask(["*"], None, bad) or "") == 16
    assert request_id() is None


def test_no_secret_and_no_control_character() -> None:
    """In the message, its arguments and a traceback."""
    said = line("%s asks with %s\x1b[2J and nwk_abcdefgh_ijklmnop", "ws://ada:pass@host/x?ticket=abc&a=1", JWT)
    assert said["message"] == "ws://host/x?ticket=[hidden]&a=1 asks with [hidden]\\x1b[2J and [hidden]"
    assert line("Authorization: Bearer abc.def, Last-Event-ID: 'foo-12'")["message"] == (
        "Authorization: Bearer [hidden], Last-Event-ID: '[hidden]'"
    )
    try:
        raise ValueError(f"bad token {JWT}")
    except ValueError:
        said = line("failed", exc_info=sys.exc_info())
    assert "bad token [hidden]" in said["exception"]
    assert "Traceback" in said["exception"]
    assert line("the log spans k2mx4tq1-1 to k2mx4tq1-9")["message"] == "the log spans k2mx4tq1-1 to k2mx4tq1-9"
