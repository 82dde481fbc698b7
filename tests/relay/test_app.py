"""The relay's streams: one call, many readers, whose they are, and how they are stopped."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.fixtures.relay import CHAT, CHAT_PATH, KEY, World, owner, text_of
from tests.fixtures.upstream import Call

from newswire.relay import RelayOptions

pytestmark = pytest.mark.anyio


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


@pytest.mark.slow
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
    while compact_after is not None and not (await world.runs.get(run_id, owner=owner())).record.last:
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
    for cursor in ({}, {"last_event_id": str(events[-1].id)}):
        assert text_of(await (await world.ask(idempotency_key="k", **cursor)).rest()) == "abcdef"
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
    assert min(world.runs.stats.first_seconds) >= 0.05
    assert world.relay.stats.first_content.seconds >= 0.05


async def test_a_stream_without_a_word_leaves_its_key_free(world: World) -> None:
    """The reader learns that it broke off, or what was wrong; another request calls the upstream again."""

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


async def test_two_keys_are_none(world: World) -> None:
    """A request with two that differ is refused, since the answer can be kept under one; the same one twice is one."""

    async def script(call: Call) -> None:
        await call.chat("x")

    world.upstream.script = script
    for second, status in (("k2", 400), ("k1", 200), ("", 400)):
        answer = await world.client.post(
            CHAT_PATH,
            json=CHAT,
            headers=[("authorization", KEY), ("idempotency-key", "k1"), ("idempotency-key", second)],
        )
        assert answer.status_code == status
        if status == 400:
            assert answer.json()["code"] == "invalid_idempotency_key"
    await (await world.ask(idempotency_key="k1")).rest()
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
    asking = await world.ask_in_vain()
    run = await world.runs.get(name="relay", owner=owner())
    await run.stop()
    async with asyncio.timeout(0.1):
        await world.upstream.calls[0].gone.wait()
    for answer in (await asking, await world.ask(idempotency_key="k")):
        [last] = [event for event in await answer.rest() if "error" in event.data]
        assert json.loads(last.data)["error"]["code"] == "stopped"
    assert len(world.upstream.calls) == 1
