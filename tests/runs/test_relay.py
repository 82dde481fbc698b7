"""The relay between a client and a scripted upstream: one call, many readers, and nothing that fails in silence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.fixtures.upstream import Call, Upstream

from newswire import Hub
from newswire.errors import RelayRefused
from newswire.log import open_log
from newswire.runs import Relay, RelayOptions, Runs, relay
from newswire.testing import asgi_client
from newswire.wire import Decoder, Event

pytestmark = pytest.mark.anyio

KEY = "Bearer sk-very-secret-4711"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
CHAT_PATH = "/v1/chat/completions"


class World:
    """A relay over one scripted upstream.

    Attributes:
        upstream, runs, relay: the parts.
        client: an HTTP client of the relay.
    """

    def __init__(self, upstream: Upstream, runs: Runs, relay: Relay) -> None:
        self.upstream = upstream
        self.runs = runs
        self.relay = relay
        self.client = asgi_client(relay, timeout=20)
        self._answers: list[Answer] = []

    async def close(self) -> None:
        """Leave whatever is still open."""
        for answer in self._answers:
            await answer.response.aclose()
        await self.client.aclose()
        await self.relay.close()

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        sent = {"authorization": KEY, **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = self.client.build_request(method, path, json=body, headers=sent)
        answer = Answer(await self.client.send(request, stream=True))
        self._answers.append(answer)
        return answer

    async def ask(self, body: Any = CHAT, path: str = CHAT_PATH, **headers: str) -> Answer:
        """POST, and the answer's head."""
        return await self._send("POST", path, body, headers)

    async def get(self, path: str, **headers: str) -> Answer:
        """GET, and the answer's head."""
        return await self._send("GET", path, None, headers)


class Answer:
    """A response that is read event by event.

    Attributes:
        response: the response.
    """

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._decoder = Decoder()
        self._events: list[Event] = []
        self._chunks = response.aiter_raw()

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def place(self) -> str:
        return self.response.headers["content-location"]

    async def next(self) -> Event:
        """The next event."""
        async with asyncio.timeout(20):
            while not self._events:
                self._events += self._decoder.feed(await anext(self._chunks))
        return self._events.pop(0)

    async def rest(self) -> list[Event]:
        """All events to the end."""
        events, self._events = self._events, []
        async with asyncio.timeout(20):
            async for chunk in self._chunks:
                events += self._decoder.feed(chunk)
        await self.response.aclose()
        return events

    async def json(self) -> Any:
        return json.loads(await self.response.aread())


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """A real server in this event loop; its URL."""
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        await server.shutdown()


def text_of(events: list[Event]) -> str:
    """What chat completion chunks say."""
    found = [json.loads(event.data) for event in events if event.data != "[DONE]"]
    return "".join(
        choice["delta"].get("content") or "" for chunk in found if "choices" in chunk for choice in chunk["choices"]
    )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A relay whose log is a file."""
    async with Upstream() as upstream, Hub(open_log(f"sqlite:///{tmp_path}/relay.db")) as hub, Runs(hub) as runs:
        made = World(upstream, runs, Relay(runs, [upstream.url]))
        yield made
        await made.close()


# -- streams


async def test_a_completion_is_its_upstreams_with_ids_and_a_place(world: World) -> None:
    """What the upstream sent, event by event; the answer says where it can be read again."""

    async def script(call: Call) -> None:
        await call.chat("Hello", ", ", "world")

    world.upstream.script = script
    answer = await world.ask()
    assert answer.status == 200
    assert answer.response.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = await answer.rest()
    assert [event.data for event in events][-1] == "[DONE]"
    assert text_of(events) == "Hello, world"
    assert len({event.id for event in events}) == 5
    again = await world.get(answer.place)
    assert [event.data for event in await again.rest()] == [event.data for event in events]
    [call] = world.upstream.calls
    assert call.target == CHAT_PATH
    assert json.loads(call.body) == CHAT
    assert call.headers["authorization"] == KEY
    assert call.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("compact_after", [None, 0.01])
async def test_it_can_be_resumed_at_every_event(world: World, compact_after: float | None) -> None:
    """What was read before and what comes after is the whole, at each cut; folded too."""

    async def script(call: Call) -> None:
        await call.chat(*"abcdef")

    world.upstream.script = script
    world.relay._options = RelayOptions(compact_after=compact_after)
    answer = await world.ask(idempotency_key="k")
    events = await answer.rest()
    run_id = answer.place.removeprefix("/runs/")
    while compact_after is not None and not (await world.runs.find(run_id, _owner(KEY.encode()))).last:
        await asyncio.sleep(0.01)
    for number, event in enumerate(events[:-1]):
        resumed = await world.get(answer.place, last_event_id=str(event.id))
        later = await resumed.rest()
        assert text_of(later) == "abcdef"  # a client that comes back is a new one: it gets what was before in one piece
        assert later[-1].data == "[DONE]"
        assert [each.id for each in later][-1] == events[-1].id
        assert len(later) <= len(events) - number + 1
    done = await world.get(answer.place, last_event_id=str(events[-1].id))
    assert done.status == 204
    assert text_of(await (await world.ask(idempotency_key="k")).rest()) == "abcdef"
    assert len(world.upstream.calls) == 1


async def test_one_key_calls_once(world: World) -> None:
    """At the same moment, while it streams, and when it is finished."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.chunk("one")
        await go.wait()
        await call.chunk(" two", finish="stop")
        await call.event("[DONE]")
        await call.end()

    world.upstream.script = script
    answers = await asyncio.gather(*(world.ask(idempotency_key="k1") for _ in range(8)))
    assert len({answer.place for answer in answers}) == 1
    go.set()
    answers.append(await world.ask(idempotency_key="k1"))
    for answer in answers:
        assert text_of(await answer.rest()) == "one two"
    assert text_of(await (await world.ask(idempotency_key="k1")).rest()) == "one two"
    assert len(world.upstream.calls) == 1
    assert (await world.ask(idempotency_key="k2")).status == 200
    assert (await world.ask()).status == 200
    assert len(world.upstream.calls) == 3


async def test_the_head_is_there_before_the_first_word(world: World) -> None:
    """For all who ask with the key, with what it said; the time to the first word is that of the word."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head(x_request_id="req_1")
        await go.wait()
        await call.chat_rest("at last")

    world.upstream.script = script
    answers = [await world.ask(idempotency_key="k") for _ in range(2)]
    assert [answer.response.headers["x-request-id"] for answer in answers] == ["req_1"] * 2
    reached = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() < reached + 0.05:
        await asyncio.sleep(0)
    go.set()
    assert [text_of(await answer.rest()) for answer in answers] == ["at last"] * 2
    assert len(world.upstream.calls) == 1
    quickest = world.runs.stats.first_quantile(0.0)
    assert quickest is not None
    assert quickest >= 0.05
    assert world.relay.stats.first_seconds >= 0.05


async def test_a_stream_without_a_word_leaves_its_key_free(world: World) -> None:
    """Who asked is told that it broke off, or what was wrong; who asks again, asks the upstream again."""

    async def script(call: Call) -> None:
        if len(world.upstream.calls) > 3:
            await call.chat("now")
            return
        await call.head()
        if len(world.upstream.calls) == 2:
            await call.chunk()
        elif len(world.upstream.calls) == 3:
            await call.event({"error": {"message": "overloaded"}})
        await call.end()

    world.upstream.script = script
    for _ in range(3):
        assert "error" in (await (await world.ask(idempotency_key="k")).rest())[-1].data
    assert len(world.upstream.calls) == 3
    assert text_of(await (await world.ask(idempotency_key="k")).rest()) == "now"


async def test_a_key_is_for_one_request(world: World) -> None:
    """Another body under the same key is refused, and nothing is called."""

    async def script(call: Call) -> None:
        await call.chat("x")

    world.upstream.script = script
    await (await world.ask(idempotency_key="k")).rest()
    other = await world.ask({**CHAT, "model": "other"}, idempotency_key="k")
    assert other.status == 422
    assert (await other.json())["code"] == "idempotency_key_reused"
    assert len(world.upstream.calls) == 1


async def test_other_credentials_have_other_runs(world: World) -> None:
    """With the same key too; and to read or stop, a run of somebody else's is not there."""

    async def script(call: Call) -> None:
        await call.chat(call.headers.get("authorization", "nobody"))

    world.upstream.script = script
    mine = await world.ask(idempotency_key="k")
    await mine.rest()
    yours = await world.ask(idempotency_key="k", authorization="Bearer sk-somebody-else")
    assert mine.place != yours.place
    assert "sk-somebody-else" not in text_of(await yours.rest())
    stranger = {"authorization": "Bearer sk-somebody-else"}
    for headers in (stranger, {"authorization": ""}, {"authorization": "", "x_api_key": "sk-very-secret-4711"}):
        found = await world.get(mine.place, **headers)
        assert found.status == 404
        assert (await found.json())["code"] == "not_found"
    assert (await world.client.delete(mine.place)).status_code == 404
    assert (
        await world.client.delete(mine.place, headers={"authorization": stranger["authorization"]})
    ).status_code == 404
    assert len(world.upstream.calls) == 2


async def test_secrets_never_reach_the_log(world: World, tmp_path: Path) -> None:
    """Not from headers, and not when the upstream says them again: in its head, its errors or its stream."""
    secrets = ["sk-very-secret-4711", "anthropic-secret-0815", "session-secret-1234"]

    async def script(call: Call) -> None:
        if call.headers["x-case"] == "refused":
            await call.answer(401, f"no such key: {' '.join(secrets)}".encode(), www_authenticate=secrets[0])
            return
        await call.head(x_key=secrets[0])
        await call.chunk("your key is " + " and ".join(secrets))
        await call.cut() if call.headers["x-case"] == "cut" else await call.event("[DONE]")
        await call.end()

    world.upstream.script = script
    world.relay._options = RelayOptions(cookies=True)
    for case in ("refused", "whole"):
        more = {"x_api_key": secrets[1], "cookie": f"session={secrets[2]}", "x_case": case}
        answer = await world.ask(idempotency_key="the-key-of-a-client", **more)
        await answer.response.aread()
    assert world.upstream.calls[1].headers["cookie"] == f"session={secrets[2]}"
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240  # the log and its WAL
    assert b"your key is [redacted] and [redacted] and [redacted]" in stored
    for secret in [*secrets, "the-key-of-a-client"]:
        assert secret.encode() not in stored


# -- stop and leave


async def test_stop_closes_the_upstream_and_a_client_that_leaves_does_not(world: World) -> None:
    """The run goes on without readers; a stop ends it for all of them, and says so in their format."""

    async def script(call: Call) -> None:
        await call.head()
        await call.chunk("one")
        await call.gone.wait()

    world.upstream.script = script
    answer = await world.ask()
    assert text_of([await answer.next()]) == "one"
    await answer.response.aclose()
    watcher = await world.get(answer.place)
    assert text_of([await watcher.next()]) == "one"
    [call] = world.upstream.calls
    assert not call.gone.is_set()
    stopped = await world.client.delete(answer.place, headers={"authorization": KEY})
    assert stopped.json()["stopped"] is True
    async with asyncio.timeout(0.1):
        await call.gone.wait()
    [last] = await watcher.rest()
    assert json.loads(last.data)["error"]["code"] == "stopped"
    again = await world.client.post(f"{answer.place}/stop", headers={"authorization": KEY})
    assert again.json()["stopped"] is False


async def test_a_stop_before_the_first_word_is_told(world: World) -> None:
    """The upstream is let go at once; the key stays stopped."""

    async def script(call: Call) -> None:
        await call.gone.wait()

    world.upstream.script = script
    asking = asyncio.ensure_future(world.ask(idempotency_key="k"))
    while not world.upstream.calls:
        await asyncio.sleep(0)
    run = await world.runs.get("relay", owner=_owner(KEY.encode()))
    await run.stop()
    async with asyncio.timeout(0.1):
        await world.upstream.calls[0].gone.wait()
    for answer in (await asking, await world.ask(idempotency_key="k")):
        [last] = [event for event in await answer.rest() if "error" in event.data]
        assert json.loads(last.data)["error"]["code"] == "stopped"
    assert len(world.upstream.calls) == 1


# -- what goes wrong


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
async def test_an_error_is_the_upstreams_own_and_leaves_nothing(world: World, status: int) -> None:
    """Status, headers and body go through, and the same key may try again."""
    body = b'{"error": {"message": "not now", "type": "some_error"}}'

    async def refuse(call: Call) -> None:
        await call.answer(status, body, retry_after="7", x_request_id="req_1", set_cookie="a=b")

    async def script(call: Call) -> None:
        await call.chat("now")

    world.upstream.script = refuse
    for _ in range(2):
        answer = await world.ask(idempotency_key="k")
        assert answer.status == status
        assert await answer.response.aread() == body
        assert answer.response.headers["retry-after"] == "7"
        assert answer.response.headers["x-request-id"] == "req_1"
        assert answer.response.headers["content-type"] == "application/json"
        assert "set-cookie" not in answer.response.headers
        assert "content-location" not in answer.response.headers
    world.upstream.script = script
    for _ in range(2):
        assert text_of(await (await world.ask(idempotency_key="k")).rest()) == "now"
    assert len(world.upstream.calls) == 3


async def test_all_who_wait_with_one_key_get_the_same_error(world: World) -> None:
    """From one call."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        await call.answer(429, b"slow down", retry_after="1")

    world.upstream.script = script
    asking = [asyncio.ensure_future(world.ask(idempotency_key="k")) for _ in range(6)]
    while not world.upstream.calls or world.runs.stats.attached < 5:
        await asyncio.sleep(0)
    go.set()
    answers = await asyncio.gather(*asking)
    assert [(answer.status, await answer.response.aread()) for answer in answers] == [(429, b"slow down")] * 6
    assert len(world.upstream.calls) == 1


async def _elsewhere(call: Call) -> None:
    await call.answer(307, b"", location="http://elsewhere.test/v1/chat/completions")


async def _see_other(call: Call) -> None:
    await call.answer(303, b"", location="/v1/other")


async def _round_and_round(call: Call) -> None:
    await call.answer(308, b"", location=call.target)


async def _json(call: Call) -> None:
    await call.answer(200, b'{"choices": []}')


async def _silent(call: Call) -> None:
    call.cut()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (_elsewhere, "upstream_redirects"),
        (_see_other, "upstream_redirects"),
        (_round_and_round, "upstream_redirects"),
        (_json, "upstream_no_stream"),
        (_silent, "upstream_unreachable"),
    ],
)
async def test_what_is_no_stream_is_a_502_that_says_why(world: World, script: Any, code: str) -> None:
    """Redirects to elsewhere, or without end; another type; no answer at all."""
    world.upstream.script = script
    answer = await world.ask()
    assert answer.status == 502
    said = await answer.json()
    assert said["code"] == code
    assert said["error"]["message"] == said["detail"]


async def test_a_redirect_within_the_origin_is_followed(world: World) -> None:
    """With the request as it was."""

    async def script(call: Call) -> None:
        if call.target == CHAT_PATH:
            await call.answer(307, b"", location="/v2/chat/completions")
        else:
            await call.chat(call.headers["authorization"][:6], str(json.loads(call.body) == CHAT))

    world.upstream.script = script
    assert text_of(await (await world.ask()).rest()) == "BearerTrue"


async def test_an_upstream_that_says_nothing_is_a_504(world: World) -> None:
    """And its connection is closed."""

    async def script(call: Call) -> None:
        await call.gone.wait()

    world.upstream.script = script
    world.relay._options = RelayOptions(idle_timeout=0.05)
    answer = await world.ask()
    assert answer.status == 504
    await world.upstream.calls[0].gone.wait()


async def test_nobody_listens(world: World) -> None:
    """An upstream that is not there."""
    world.relay._upstreams.clear()
    other = Relay(world.runs, ["http://127.0.0.1:9"])
    async with asgi_client(other) as client:
        assert (await client.post(CHAT_PATH, json=CHAT)).json()["code"] == "upstream_unreachable"
        assert (await client.get("/v1/models")).json()["code"] == "upstream_unreachable"
    await other.close()


async def _chat_without_done(call: Call) -> None:
    await call.head()
    await call.chunk("half")
    await call.chunk(finish="stop")
    await call.end()


async def _chat_cut(call: Call) -> None:
    await call.head()
    await call.chunk("half")
    call.cut()


async def _chat_error(call: Call) -> None:
    await call.head()
    await call.chunk("half")
    await call.event({"error": {"message": "overloaded", "type": "server_error"}})
    await call.end()


async def _message_without_stop(call: Call) -> None:
    await call.head()
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m"}
    usage = {"input_tokens": 1, "output_tokens": 1}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
    await call.event({"type": "message_start", "message": message}, "message_start")
    await call.event(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "half"}},
        "content_block_start",
    )
    await call.end()


async def _message_error(call: Call) -> None:
    await call.head()
    await call.event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
    await call.end()


async def _response_without_completed(call: Call) -> None:
    await call.head()
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "output": [],
        "status": "in_progress",
    }
    await call.event({"type": "response.created", "sequence_number": 0, "response": response}, "response.created")
    await call.end()


@pytest.mark.parametrize("script", [_chat_without_done, _chat_cut, _chat_error])
async def test_a_chat_completion_that_breaks_off_raises(world: World, script: Any) -> None:
    """In OpenAI's own client; the run has failed, also for those who come later."""
    world.upstream.script = script
    client = openai.AsyncOpenAI(api_key="k", base_url="http://test/v1", http_client=world.client, max_retries=0)
    with pytest.raises(openai.APIError):
        async for _ in await client.chat.completions.create(**CHAT):
            pass
    run = await world.runs.get("relay", owner=_owner(b"Bearer k"))
    end = await run.end()
    assert end is not None
    assert end.reason == "failed"
    later = await world.get(f"/runs/{run.id}", authorization="Bearer k")
    assert "error" in (await later.rest())[-1].data


@pytest.mark.parametrize("script", [_message_without_stop, _message_error])
async def test_a_message_that_breaks_off_raises(world: World, script: Any) -> None:
    """In Anthropic's own client."""
    world.upstream.script = script
    client = anthropic.AsyncAnthropic(api_key="k", base_url="http://test", http_client=world.client, max_retries=0)
    with pytest.raises(anthropic.APIStatusError):
        async with client.messages.stream(
            model="m", max_tokens=5, messages=[{"role": "user", "content": "Hi"}]
        ) as stream:
            await stream.get_final_message()


async def test_a_response_that_breaks_off_raises(world: World) -> None:
    """In OpenAI's own client."""
    world.upstream.script = _response_without_completed
    client = openai.AsyncOpenAI(api_key="k", base_url="http://test/v1", http_client=world.client, max_retries=0)
    with pytest.raises((openai.APIError, RuntimeError)):
        async with client.responses.stream(model="m", input="Hi") as stream:
            await stream.get_final_response()


def _owner(authorization: bytes) -> str | None:
    from newswire.runs.relaying.headers import owner_of

    return owner_of([(b"authorization", authorization)])


async def test_the_clients_retry_as_with_the_upstream(world: World) -> None:
    """A 429 with `retry-after-ms` is tried again by OpenAI's client, and then there is an answer."""

    async def script(call: Call) -> None:
        if len(world.upstream.calls) < 3:
            await call.answer(429, b'{"error": {"message": "slow down"}}', retry_after_ms="1")
        else:
            await call.chat("at last")

    world.upstream.script = script
    client = openai.AsyncOpenAI(api_key="k", base_url="http://test/v1", http_client=world.client, max_retries=3)
    key = {"Idempotency-Key": "one"}
    stream = await client.chat.completions.create(**CHAT, extra_headers=key)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "at last"
    assert [call.headers["x-stainless-retry-count"] for call in world.upstream.calls] == ["0", "1", "2"]


# -- other dialects, other requests


async def test_a_run_is_read_in_other_dialects(world: World) -> None:
    """The parts of the upstream's events, in the words of another API; what there is not is told."""

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
    put = await world.client.put("/v1/files/1", content=b"data")
    assert (put.status_code, put.json()["body"]) == (418, "data")
    plain = await world.client.post(CHAT_PATH, json={**CHAT, "stream": False})
    assert json.loads(plain.json()["body"])["stream"] is False
    odd = await world.client.post(CHAT_PATH, content=b"{not json")
    assert odd.json()["body"] == "{not json"


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
    """The answer is not held back; nobody asks on for a client that is gone."""
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
        Relay(None, [text])  # type: ignore[arg-type]


async def test_a_body_over_the_limit_is_a_413(world: World) -> None:
    """Before anything is called."""
    world.relay._options = RelayOptions(max_body=100)
    large = await world.ask({**CHAT, "messages": [{"role": "user", "content": "x" * 200}]})
    assert large.status == 413
    assert not world.upstream.calls


# -- inside an application


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
