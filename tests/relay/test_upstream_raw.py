"""A relay copies what its upstream sends: every event, however it comes; and it bounds what it decompresses."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
from tests.fixtures.relay import CHAT_PATH, World, owner, text_of
from tests.fixtures.upstream import Call, Upstream

from newswire import Hub
from newswire.log.engine import EngineLimits
from newswire.log.memory import MemoryLog
from newswire.log.memory.engine import MemoryEngine
from newswire.relay import Relay
from newswire.relay.upstream import body_of
from newswire.runs import Runs
from newswire.wire import Decoder, Event

pytestmark = pytest.mark.anyio

PATHS = {"openai-chat": CHAT_PATH, "openai-responses": "/v1/responses", "anthropic": "/v1/messages"}


def _sent(*blocks: tuple[str | None, str]) -> bytes:
    return "".join((f"event: {type}\n" if type else "") + f"data: {data}\n\n" for type, data in blocks).encode()


def _chunk(text: str, **more: object) -> str:
    return json.dumps({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, **more}]}, ensure_ascii=False)


STREAMS = {
    "openai-chat": _sent(
        (None, _chunk("é\U0001f600")),
        (None, '{"id": "c", "choices": [{"delta": {"content": "cut off'),
        ("usage", '{"input_tokens": 1}'),
        ("newswire.end", '{"reason": "done"}'),
        ("error", "a warning?"),
        ("upstream.answered", "{}"),
        (None, '{"id": "c", "choices": [{"index": 0, "delta": {"content": "a\\ud83d"}}]}'),
        (None, '{"id": "c", "choices": [{"index": 0, "delta": {"content": "\\ude00b"}}]}'),
        (None, _chunk("", finish_reason="stop")),
        (None, "[DONE]"),
    ),
    "openai-responses": _sent(
        ("response.created", '{"type": "response.created", "response": {"id": "r"}}'),
        ("keepalive", '{"type": "keepalive", "sequence_number": 1}'),
        ("response.output_text.delta", '{"type": "response.output_text.delta", "delta": "x", "n": NaN}'),
        ("response.output_text.delta", '{"type": "response.output_text.delta", "delta": "\\ud83d"}'),
        ("response.output_text.delta", '{"type": "response.output_text.delta", "delta": "\\ude00"}'),
        ("response.completed", '{"type": "response.completed", "response": {}}'),
    ),
    "anthropic": _sent(
        ("message_start", '{"type": "message_start", "message": {"id": "m", "model": "x"}}'),
        ("usage", '{"type": "usage", "input_tokens": 1, "output_tokens": 2}'),
        ("ping", '{"type": "ping"}'),
        ("odd", "not JSON"),
        (
            "content_block_delta",
            '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83d"}}',
        ),
        (
            "content_block_delta",
            '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ude00"}}',
        ),
        ("message_delta", '{"type": "message_delta", "delta": {"stop_reason": "pause_turn"}}'),
        ("message_stop", '{"type": "message_stop"}'),
    ),
}


def _events(body: bytes) -> list[tuple[str, str]]:
    return [(event.event, event.data) for event in Decoder().feed(body)]


def _pairs(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.event, event.data) for event in events]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("format", STREAMS)
async def test_any_cut_of_the_bytes_gives_the_same_events(world: World, format: str, ending: str) -> None:
    """All of them, as they came: live, and when the run is read again."""
    body = STREAMS[format].replace(b"\n", ending.encode())
    chance = random.Random(4711)

    async def script(call: Call) -> None:
        await call.head()
        places = sorted(chance.sample(range(1, len(body)), chance.randint(0, 12)))
        for first, last in zip([0, *places], [*places, len(body)], strict=True):
            await call.send(body[first:last])
        await call.end()

    world.upstream.script = script
    for _ in range(12):
        answer = await world.ask(path=PATHS[format])
        assert _pairs(await answer.rest()) == _events(STREAMS[format])
    assert _pairs(await (await world.get(answer.place)).rest()) == _events(STREAMS[format])
    other = "native" if format == "openai-chat" else "openai-chat"
    read = await (await world.get(f"{answer.place}?dialect={other}")).rest()
    texts = [event.data for event in read if event.event == "message"] if other == "native" else [text_of(read)]
    text = {"openai-chat": "é\U0001f600a\U0001f600b"}.get(format, "\U0001f600")
    assert "".join(texts) == text
    run = await world.runs.get(answer.place.removeprefix("/runs/"), owner=owner())
    assert (await run.text(), await run.reasoning()) == (text, "")


@pytest.mark.parametrize("format", STREAMS)
async def test_an_answer_is_whole_with_its_last_event_whatever_lacks_behind_it(world: World, format: str) -> None:
    """The empty line, the line's end, the end of the body; but not a byte of the event."""
    whole = STREAMS[format]
    for less, broken, reason in (
        *((0, False, "done"), (1, False, "done"), (2, False, "done"), (3, False, "failed")),
        *((2, True, "done"), (3, True, "failed")),
    ):

        async def script(call: Call, less: int = less, broken: bool = broken) -> None:
            await call.head()
            await call.send(whole[: len(whole) - less])
            if broken:
                call.close()
            else:
                await call.end()

        world.upstream.script = script
        answer = await world.ask(path=PATHS[format])
        events = await answer.rest()
        end = await (await world.runs.get(answer.place.removeprefix("/runs/"), owner=owner())).end()
        assert end is not None
        assert end.reason == reason, less
        if reason == "done":
            assert _pairs(events) == _events(whole)


async def test_an_error_of_the_stream_is_told_as_it_came(world: World) -> None:
    """With all that the upstream says in it."""
    error = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}'

    async def script(call: Call) -> None:
        await call.head()
        await call.send(_sent(("message_start", '{"type":"message_start","message":{"id":"m"}}'), ("error", error)))
        await call.end()

    world.upstream.script = script
    answer = await world.ask(path=PATHS["anthropic"])
    assert _pairs(await answer.rest())[1:] == [("error", error)]
    assert "Overloaded" in (await (await world.get(f"{answer.place}?dialect=openai-chat")).rest())[-1].data


async def test_an_event_that_the_log_does_not_take_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream may send more in one event, an image say, than the log stores: the error names both sizes."""

    async def script(call: Call) -> None:
        await call.head()
        await call.chat_rest("Here", "x" * 2000)

    monkeypatch.setattr(MemoryEngine, "limits", EngineLimits(event_bytes=1000))
    async with Upstream(script) as upstream, Hub(MemoryLog()) as hub, Runs(hub) as runs:
        world = World(upstream, runs, Relay(runs, [upstream.url]))
        last = (await (await world.ask()).rest())[-1]
        await world.close()
    error = last.json()["error"]
    assert error["type"] == "upstream_too_large"
    assert "the limit is 1,000" in error["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)]
)
async def test_a_compressed_answer_is_read_and_its_size_is_bounded(
    world: World, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    """No request asks for it, but servers do it. 100 KB that become 100 MB end the answer, not the process."""
    body = STREAMS["openai-chat"]
    bomb = compress(b"data: " + bytes(100_000_000))

    async def script(call: Call) -> None:
        await call.head(content_encoding=encoding)
        await call.send(bomb if call.headers["x-case"] == "bomb" else compress(body))
        await call.end()

    world.upstream.script = script
    assert _pairs(await (await world.ask(x_case="body")).rest()) == _events(body)
    tracemalloc.start()
    try:
        answer = await world.ask(x_case="bomb")
        last = (await answer.rest())[-1]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "upstream_unreadable" in last.data
    assert peak < 80_000_000


@pytest.mark.slow
async def test_the_error_of_an_upstream_is_bounded_too(world: World) -> None:
    """However well it was compressed."""

    async def script(call: Call) -> None:
        await call.answer(500, gzip.compress(bytes(100_000_000)), content_encoding="gzip")

    world.upstream.script = script
    answer = await world.ask()
    assert (answer.status, len(await answer.response.aread())) == (500, 2**20)
    assert "content-encoding" not in answer.response.headers


@pytest.mark.parametrize("status", [200, 400])
async def test_what_can_not_be_decompressed_is_a_502(world: World, status: int) -> None:
    """Nothing of it reaches the client."""

    async def script(call: Call) -> None:
        await call.head(status, content_encoding="br")
        await call.send(b"\x0b\x02\x80hello\x03")
        await call.end()

    world.upstream.script = script
    answer = await world.ask()
    assert (answer.status, (await answer.json())["code"]) == (502, "upstream_compressed")


async def test_a_person_who_opens_the_relay_reads_what_it_is(world: World) -> None:
    """No request goes to the upstream for it."""
    for method in ("GET", "HEAD"):
        answer = await world._send(method, "/", None, {})
        assert (answer.status, answer.response.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        text = (await answer.response.aread()).decode()
        assert ("    http://test\n" in text) == (method == "GET")
    assert world.upstream.calls == []


async def test_others_take_turns_while_an_answer_is_decompressed() -> None:
    """A few kilobytes that hold megabytes don't keep the event loop to themselves."""

    async def compressed() -> AsyncIterator[bytes]:
        yield gzip.compress(b"\n" * 2**22)

    turns = pieces = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    try:
        response = httpx2.Response(200, headers={"content-encoding": "gzip"}, content=compressed())
        async for _ in body_of(response):
            pieces += 1
    finally:
        task.cancel()
    assert 2**22 / 2**16 <= pieces <= turns + 2
