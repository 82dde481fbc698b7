"""Other requests to a relay: other dialects, other paths, other places; and an application's own calls."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.fixtures.relay import CHAT, CHAT_PATH, World, serving
from tests.fixtures.upstream import Call

from newswire import Hub
from newswire.delivery.strangers import BUDGET
from newswire.errors import RelayRefused
from newswire.relay import Relay, RelayOptions, Upstream, relay
from newswire.runs import Runs
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio


async def test_a_run_is_read_in_other_dialects(world: World) -> None:
    """The parts of the upstream's events, in the words of another API; an unknown dialect is an error."""

    async def script(call: Call) -> None:
        await call.chat("Hello", " you")

    world.upstream.script = script
    answer = await world.ask()
    await answer.rest()
    message = await (await world.get(f"{answer.place}?dialect=anthropic")).rest()
    assert [event.event for event in message][:2] == ["message_start", "content_block_start"]
    native = await (await world.get(f"{answer.place}?dialect=native")).rest()
    assert native[-1].event == "newswire.end"
    sdk = await world.get(f"{answer.place}?dialect=ai-sdk")
    assert sdk.response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    await sdk.rest()
    wrong = await world.get(f"{answer.place}?dialect=latin")
    assert wrong.status == 400
    assert (await wrong.json())["dialects"] == sorted(
        ["ag-ui", "ai-sdk", "anthropic", "native", "openai-chat", "openai-responses"]
    )


async def test_everything_else_is_passed_on_as_it_is(world: World) -> None:
    """Method, path, query, headers and body, both ways; but for what belongs to a connection."""

    async def script(call: Call) -> None:
        seen = {"method": call.method, "target": call.target, "headers": call.headers, "body": call.body.decode()}
        status = 418 if call.method == "PUT" else 200
        more = {"connection": "x-hop", "x_hop": "1", "x_kept": "2", "set_cookie": "a=b", "alt_svc": "h3"}
        more |= {"access_control_allow_origin": "*", "access_control_allow_credentials": "true"}
        await call.answer(status, json.dumps(seen).encode(), **more)

    world.upstream.script = script
    headers = {"connection": "x-mine", "x-mine": "1", "cookie": "a=b", "x-forwarded-for": "10.0.0.1", "te": "trailers"}
    headers |= {"accept-encoding": "br", "x-other": "2"}
    got = await world.client.get("/v1/models%2Fa?b=c%20d&e", headers=headers)
    seen = got.json()
    assert (got.status_code, seen["method"], seen["target"]) == (200, "GET", "/v1/models%2Fa?b=c%20d&e")
    assert seen["headers"]["x-other"] == "2"
    assert seen["headers"]["accept-encoding"] == "br"
    assert seen["headers"]["host"] == world.upstream.url.removeprefix("http://")
    assert not {"x-mine", "cookie", "x-forwarded-for", "te"} & seen["headers"].keys()
    assert got.headers["x-kept"] == "2"
    assert not {"x-hop", "set-cookie", "alt-svc", "connection"} & got.headers.keys()
    assert not any(name.startswith("access-control-") for name in got.headers)  # those are its own, or its server's
    put = await world.client.put("/v1/files/1", content=b"data")
    assert (put.status_code, put.json()["body"]) == (418, "data")
    plain = await world.client.post(CHAT_PATH, json={**CHAT, "stream": False})
    assert json.loads(plain.json()["body"])["stream"] is False
    odd = await world.client.post(CHAT_PATH, content=b"{not json")
    assert odd.json()["body"] == "{not json"


async def test_a_stream_that_is_passed_on_asks_proxies_not_to_buffer(world: World) -> None:
    """With what its upstream does not say itself; what is no stream stays as it is."""

    async def script(call: Call) -> None:
        kind = "application/json" if call.target == "/v1/models" else "text/event-stream"
        await call.answer(200, b"data: x\n\n", content_type=kind, cache_control="private")

    world.upstream.script = script
    stream = (await world.get("/v1/threads/1/events")).response
    assert [stream.headers[name] for name in ("x-accel-buffering", "incremental")] == ["no", "?1"]
    assert [stream.headers[name] for name in ("content-type", "cache-control")] == ["text/event-stream", "private"]
    assert "incremental" not in (await world.get("/v1/models")).response.headers


async def test_a_request_names_no_host(world: World) -> None:
    """Whatever its path looks like, it goes to the upstream or nowhere."""

    async def script(call: Call) -> None:
        await call.answer(200, call.target.encode())

    world.upstream.script = script
    for path in ("//elsewhere.test/v1/models", "/@elsewhere.test/", "/http://elsewhere.test/", "/%40elsewhere.test"):
        assert (await world.client.get(f"http://test{path}")).text == path
    for path in ("/v1/%2e%2e/admin", "/v1/..%2fadmin", "/%2e/x"):
        assert (await world.client.get(path)).json()["code"] == "invalid_path"


async def test_bodies_go_through_as_they_come_and_a_client_that_leaves_ends_the_request(world: World) -> None:
    """The answer is not held back; the request to the upstream ends when its client is gone."""
    arrived = asyncio.Event()

    async def script(call: Call) -> None:
        assert call.body == b"onetwo"
        await call.head(content_type="text/plain")
        await call.send(b"first")
        await call.gone.wait()
        arrived.set()

    async def upload() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    world.upstream.script = script
    request = world.client.build_request("POST", "/v1/files", content=upload())
    answer = await world.client.send(request, stream=True)
    assert await anext(answer.aiter_raw()) == b"first"
    await answer.aclose()
    async with asyncio.timeout(5):
        await arrived.wait()


async def test_an_answer_that_breaks_off_has_no_end(world: World) -> None:
    """A client must not take half a body for all of it."""

    async def script(call: Call) -> None:
        await call.head(content_type="text/plain")
        await call.send(b"half")
        call.cut()

    world.upstream.script = script
    with pytest.raises(httpx2.RemoteProtocolError):
        async with serving(world.relay) as url, httpx2.AsyncClient() as client:
            await client.get(f"{url}/v1/files/1")


async def test_mounted_in_an_application_it_knows_where_it_is(world: World) -> None:
    """`Content-Location` has the path that leads there."""

    async def script(call: Call) -> None:
        await call.chat(call.target)

    world.upstream.script = script
    app = Starlette(routes=[Mount("/ai", app=world.relay)])
    async with asgi_client(app) as client:
        answer = await client.post(f"/ai{CHAT_PATH}", json=CHAT)
        assert CHAT_PATH in answer.text
        place = answer.headers["content-location"]
        assert place.startswith("/ai/runs/relay.")
        assert (await client.get(place)).text == answer.text


async def test_named_upstreams_have_paths_of_their_own(world: World) -> None:
    """And a path without an upstream is not found."""

    async def script(call: Call) -> None:
        await call.chat(call.target)

    world.upstream.script = script
    several = Relay(world.runs, [f"a={world.upstream.url}/one", f"b={world.upstream.url}/two/"])
    async with asgi_client(several) as client:
        for name, target in (("a", "/one/v1/chat/completions"), ("b", "/two/v1/chat/completions")):
            answer = await client.post(f"/{name}/v1/chat/completions", json=CHAT, headers={"idempotency-key": "k"})
            assert target in answer.text
        assert (await client.get("/v1/models")).json()["code"] == "no_upstream"
    await several.close()
    assert len(world.upstream.calls) == 2


@pytest.mark.parametrize(
    "text", ["", "api.openai.com", "ftp://x", "http://", "a=", "runs=http://x", "a b=http://x", "http://x?y"]
)
def test_what_is_no_upstream_is_refused(text: str) -> None:
    """When the relay is made, with what it should be."""
    with pytest.raises(ValueError, match="upstream"):
        Relay(Runs(Hub()), [text])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"runs": Hub()}, "runs is a Runs, not <newswire.hub.hub.Hub object"),
        ({"upstreams": "https://a"}, "upstreams is a list, not 'https://a'"),
        ({"upstreams": [3]}, "an upstream is an Upstream, not 3"),
        ({"options": {"max_body": 3}}, "options is a RelayOptions, not {'max_body': 3}"),
        ({"client": httpx2.Client}, "client is an httpx2.AsyncClient or an httpx.AsyncClient, not the class Client"),
    ],
)
async def test_a_relay_refuses_other_kinds(given: dict[str, Any], text: str) -> None:
    """When it is made, by name; and so does the call of an application, before it calls anybody."""
    runs = Runs(Hub(), public=True)
    with pytest.raises(TypeError, match="^" + re.escape(text)):
        Relay(**{"runs": runs, "upstreams": ["https://a"], **given})
    if "upstreams" not in given:
        request = httpx2.Request("POST", f"https://a{CHAT_PATH}", json=CHAT)
        with pytest.raises(TypeError, match="^" + re.escape(text)):
            await relay(**{"runs": runs, "request": request, **given})


async def test_what_an_application_relays() -> None:
    """A request of an HTTP library, and an API that newswire knows."""
    runs = Runs(Hub(), public=True)
    with pytest.raises(TypeError, match=r"request is an httpx\.Request or httpx2\.Request, not 'https://a'"):
        await relay(runs, "https://a")
    with pytest.raises(ValueError, match="there is no reader of 'latin'"):
        await relay(runs, httpx2.Request("POST", "https://a/", json=CHAT), format="latin")
    with pytest.raises(TypeError, match="url is a str, not b'https://a'"):
        Upstream(b"https://a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="credential_headers is a list, not 'x-my-key'"):
        RelayOptions(credential_headers="x-my-key")  # type: ignore[arg-type]


async def test_a_body_over_the_limit_is_a_413(world: World) -> None:
    """Before anything is called."""
    small = Relay(world.runs, [world.upstream.url], options=RelayOptions(max_body=100))
    async with asgi_client(small) as client:
        large = await client.post(CHAT_PATH, json={**CHAT, "messages": [{"role": "user", "content": "x" * 200}]})
        endless = await client.post(CHAT_PATH, json=CHAT, headers={"content-length": "9" * 5000})
    assert large.status_code == large.json()["status"] == 413
    assert large.json()["error"]["type"] == "too_large"
    assert endless.status_code == 413
    assert not world.upstream.calls


async def test_unfinished_completions_share_the_budget_of_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is spent, the oldest gets a 503 in the form that clients of AI services read."""
    monkeypatch.setattr(BUDGET, "limit", 150_000)
    head = f"POST {CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    part = head.encode() + b"Content-Length: 200000\r\n\r\n" + b" " * 100_000
    async with serving(world.relay) as url, AsyncExitStack() as stack:
        _, _, port = url.rpartition(":")
        readers = []
        for number in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
            stack.callback(writer.close)
            writer.write(part)
            readers.append(reader)
            while not number and BUDGET.used < 100_000:
                await asyncio.sleep(0)
        status = await readers[0].readline()
        await readers[0].readuntil(b"\r\n\r\n")
        refused = json.loads(await readers[0].readline())
        assert status.startswith(b"HTTP/1.1 503")
        assert refused["error"]["type"] == refused["code"] == "unfinished"
        assert BUDGET.used <= 100_000
    assert not world.upstream.calls


@pytest.mark.parametrize("library", [httpx2, httpx])
async def test_a_request_of_an_applications_own_becomes_a_run(world: World, library: Any) -> None:
    """`relay()` gives the run once the upstream streams, and raises what it says instead."""

    async def script(call: Call) -> None:
        if len(world.upstream.calls) == 1:
            await call.answer(401, b"who are you?")
        else:
            await call.chat("Hello", " you")

    world.upstream.script = script
    async with library.AsyncClient() as client:

        def request() -> Any:
            return client.build_request("POST", world.upstream.url + CHAT_PATH, json=CHAT)

        with pytest.raises(RelayRefused) as refused:
            await relay(world.runs, request(), client=client, name="chat.1", key="k", owner="me")
        assert (refused.value.status, refused.value.body) == (401, b"who are you?")
        run = await relay(world.runs, request(), client=client, name="chat.1", key="k", owner="me")
        again = await relay(world.runs, request(), name="chat.1", key="k", owner="me")
        assert run.id == again.id
        assert (await run.wait()).reason == "done"
        own = await relay(world.runs, request(), name="chat.2", owner="me")  # with a client of its own
        assert (await own.wait()).reason == "done"
        with pytest.raises(ValueError, match="format"):
            await relay(world.runs, client.build_request("POST", world.upstream.url))
    assert len(world.upstream.calls) == 3
