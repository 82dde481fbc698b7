"""One shape for every error answer, whichever part of newswire makes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from tests.fixtures.asgi_request import Client

from newswire import EventSourceResponse, Hub
from newswire.delivery.problem import ERRORS, Problem, unavailable
from newswire.relay.responses import refusal_of
from newswire.runs import Runs

pytestmark = pytest.mark.anyio
SCOPE = {"type": "http", "method": "GET", "http_version": "1.1", "headers": [], "path": "/"}


async def never() -> AsyncIterator[str]:
    await asyncio.Event().wait()
    yield "at last"


async def of_a_stream(hub: Hub) -> Any:
    return EventSourceResponse(hub.subscribe("news"))


async def of_a_run(hub: Hub) -> Any:
    runs = Runs(hub, public=True)
    run = await runs.start("answer", never())
    return runs.response(Request(SCOPE), run)


@pytest.mark.parametrize("make", [of_a_stream, of_a_run])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stopping_hub_is_one_503(make: Callable[[Hub], Any], method: str) -> None:
    """A stream and a run of a hub that is stopping answer alike: a problem with type and code that no cache keeps."""
    hub = Hub()
    await hub.publish("news", "one")
    response = await make(hub)
    await hub.shutdown()
    client = Client()
    await response({**SCOPE, "method": method}, client.receive, client.send)
    found = json.loads(client.text)
    assert set(found) == {"type", "title", "status", "code", "detail"}
    assert (found["type"], found["status"], found["code"]) == (f"{ERRORS}#stopping", 503, "stopping")
    assert found["title"] == "Service Unavailable"
    assert client.headers[b"content-type"] == b"application/problem+json"
    assert client.headers[b"cache-control"] == b"no-store"
    assert int(client.headers[b"retry-after"]) > 0
    assert int(client.headers[b"content-length"]) == len(client.text.encode())


async def test_retry_after_has_jitter() -> None:
    """Clients that were refused together don't return together."""
    assert len({unavailable("no").headers["retry-after"] for _ in range(200)}) > 1


async def test_a_head_request_gets_no_body() -> None:
    """The answer to HEAD has the length of the body, and no body."""
    client = Client()
    await Problem(404, "not_found", "no")({**SCOPE, "method": "HEAD"}, client.receive, client.send)
    assert client.text == ""
    assert int(client.headers[b"content-length"]) > 0


@given(st.integers(400, 599), st.text(), st.dictionaries(st.sampled_from(["field", "line", "limit"]), st.text()))
async def test_any_detail_is_json(status: int, detail: str, more: dict[str, str]) -> None:
    """Whatever text an error has, every way to answer sends the same members as JSON."""
    problem = Problem(status, "some_code", detail, **more)
    refused, client = refusal_of(Problem(status, "some_code", detail, **more)), Client()
    await problem(SCOPE, client.receive, client.send)
    found = json.loads(client.text)
    assert found["status"] == status
    assert found["title"]
    assert found.items() >= more.items() if detail.isascii() else found
    again = json.loads(refused.body)
    assert again.pop("error")["code"] == "some_code"
    assert again == found
    assert {(name.encode(), value.encode()) for name, value in refused.headers} <= client.headers.items()
