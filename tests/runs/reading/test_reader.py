"""Runs that stop being kept while somebody reads: no reader waits for ever, or reads another run instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.asgi_request import Client
from tests.runs.suite.base import words

from newswire import Decoder, Hub
from newswire.errors import RunNotFound
from newswire.hub import history
from newswire.hub.options import HubOptions, StreamOptions
from newswire.runs import DIALECTS, RunOptions, Runs, WorkerOptions
from newswire.runs.reading.run import Run
from newswire.runs.store.record import out_channel

pytestmark = pytest.mark.anyio

PATIENCE = 30.0
WORKER = WorkerOptions(lease=0.4)


async def drop(runs: Runs, run: Run) -> None:
    """Drop an ended run, as another process does when its time is over."""
    record = await runs.store.find(run.id)
    assert record is not None
    await runs.store.drop([record])


async def ended(runs: Runs, count: int = 400, **options: Any) -> Run:
    """A run of some events that has ended."""
    run = await runs.start(
        "chat.1", (f"{n} ".ljust(1000) for n in range(count)), options=RunOptions(keep_for=3600), **options
    )
    await run.wait()
    return run


@pytest.fixture(params=["memory", "sqlite"])
async def runs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runs]:
    """Runs on either log."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/log.db"
    # So that a reader who is behind reads from the log.
    monkeypatch.setattr(history, "PAGE_EVENTS", 32)
    monkeypatch.setattr(history, "PAGE_CACHE_BYTES", 1)
    options = HubOptions(window_bytes=10_000)
    async with (
        asyncio.timeout(PATIENCE),
        Hub(url, options=options) as hub,
        Runs(hub, public=True, worker=WORKER) as made,
    ):
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("taken", [0, 16])
async def test_an_iteration_ends_when_its_run_is_dropped(runs: Runs, taken: int) -> None:
    """A reader that is behind when its run is dropped gets an end that says so; before its first event, RunNotFound."""
    run = await ended(runs)
    iterator = aiter(run.subscribe())
    first = [await anext(iterator) for _ in range(taken)]
    await drop(runs, run)
    if not taken:
        with pytest.raises(RunNotFound):
            await anext(iterator)
        return
    rest = [event async for event in iterator]
    assert rest[-1].event == "newswire.end"
    texts = [event.data.strip() for event in [*first, *rest[:-1]]]
    assert texts == [str(number) for number in range(len(texts))]
    assert len(texts) < 400
    assert rest[-1].json()["reason"] == "failed"
    assert rest[-1].json()["error"]["type"] == "EventsLost"


async def test_nothing_waits_for_a_dropped_run(runs: Runs) -> None:
    """Every call of a handle says RunNotFound: wait, text, state, end, subscribe, and those of `Runs`."""
    run = await ended(runs, 5)
    handle = await runs.get(run.id)
    await drop(runs, run)
    for each in (run, handle):
        for call in (each.wait, each.text, each.reasoning, each.state, each.end, each.stop):
            with pytest.raises(RunNotFound):
                await call()
        with pytest.raises(RunNotFound):
            [event async for event in each.subscribe()]
    with pytest.raises(RunNotFound):
        await runs.get(run.id)
    with pytest.raises(RunNotFound):
        await asyncio.to_thread(runs.sync.wait, run, PATIENCE)
    client = Client()
    await runs.response(None, run.id)(SCOPE, client.receive, client.send)
    assert json.loads(client.text)["status"] == 404


async def test_a_wait_ends_when_its_run_is_dropped(runs: Runs) -> None:
    """A wait that has begun while the run went on ends too, if the end was dropped before it was seen."""
    go_on = asyncio.Event()

    async def produce() -> AsyncIterator[str]:
        yield "a"
        await go_on.wait()

    run = await runs.start("chat.1", produce())
    reader = aiter(run.subscribe())
    assert (await anext(reader)).data == "a"
    waiting = asyncio.create_task(run.wait())
    await asyncio.sleep(0)
    go_on.set()
    assert (await waiting).reason == "done"
    await drop(runs, run)
    with pytest.raises(RunNotFound):
        await run.wait()


SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "http_version": "1.1", "headers": []}


class Slow(Client):
    """A client that takes nothing for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.began = asyncio.Event()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "http.response.body":
            self.began.set()
            await self.go_on.wait()


@pytest.mark.slow
@pytest.mark.parametrize("dialect", [None, *sorted(DIALECTS)])
async def test_a_stream_ends_when_its_run_is_dropped(runs: Runs, dialect: str | None) -> None:
    """In every dialect a stream that is behind ends, and does not pass for whole; a client that asks again gets 404."""
    run = await runs.start("chat.1", ("x" * 5000 for _ in range(100)), options=RunOptions(keep_for=3600))
    await run.wait()
    client = Slow()
    runs._stream = StreamOptions(heartbeat=0.1)
    stream = asyncio.create_task(runs.response(None, run.id, dialect=dialect)(SCOPE, client.receive, client.send))
    await client.began.wait()
    await drop(runs, run)
    client.go_on.set()
    await stream
    events = Decoder().feed(client.text.encode())
    if dialect is None:
        assert events[-1].event == "newswire.end"
        assert (events[-1].json()["reason"] == "failed") == (len(events) < 101)
    again = Client()
    await runs.response(None, run.id, dialect=dialect)(SCOPE, again.receive, again.send)
    assert json.loads(again.text)["status"] == 404


@pytest.mark.parametrize("compacted", [False, True])
async def test_others_take_turns_while_a_long_run_is_read(compacted: bool) -> None:
    """A client that comes back to a long answer does not hold up the others, on a log that answers at once either."""
    async with Hub() as hub, Runs(hub, public=True) as runs:
        run = await runs.start("chat.1", iter(["word "] * 2000))
        await run.wait()
        if compacted:
            assert await runs.store.compact(run.id)
        reading = asyncio.create_task(run.text())
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert len(reading.result()) == 10_000
        assert turns > 15


@pytest.mark.slow
@pytest.mark.parametrize("compacted", [False, True])
async def test_a_run_without_its_beginning_is_no_whole_run(runs: Runs, compacted: bool) -> None:
    """A reader back behind what was removed gets the failure too, except a client that keeps what it has read."""
    run = await ended(runs, 40)
    events = [event async for event in run.subscribe()]
    record = await runs.store.find(run.id)
    assert record is not None
    cursor = events[30].id
    if compacted:  # nothing is lost
        assert await runs.store.compact(run.id)
    else:
        await runs.hub.log.drop({out_channel(run.id): record.last_offset - 20})
    for dialect in ("openai-chat", "native"):
        client = Client()
        scope = {**SCOPE, "headers": [(b"last-event-id", str(cursor).encode())]}
        await runs.response(None, run.id, dialect=dialect)(scope, client.receive, client.send)
        read = Decoder().feed(client.text.encode())
        if dialect == "native":
            assert "".join(event.data for event in read[:-1] if event.data) == "".join(e.data for e in events[31:-1])
        else:
            assert (read[-1].data == "[DONE]") == compacted
            assert compacted or read[-1].json()["error"]["type"] == "EventsLost"
    if compacted:
        assert await run.text() == "".join(event.data for event in events[:-1])
    else:
        assert not await runs.store.compact(run.id)
        with pytest.raises(RunNotFound, match="part of it"):
            await run.text()


async def test_a_reader_never_reads_the_next_run_of_its_key(runs: Runs) -> None:
    """A run that was dropped and begun again under its key is no continuation of the one before."""
    before = await ended(runs, 400, key="k")
    iterator = aiter(before.subscribe())
    got = [(await anext(iterator)).data for _ in range(16)]
    await drop(runs, before)

    async def other() -> AsyncIterator[str]:
        for _ in range(50):
            yield "other"
            await asyncio.sleep(0.01)

    again = await runs.start("chat.1", other(), key="k")
    assert again.id == before.id
    got += [event.data async for event in iterator if event.event == "message"]
    assert "other" not in got
    with pytest.raises(RunNotFound):
        await before.wait()
    assert (await again.wait()).reason == "done"


@pytest.mark.slow
async def test_a_run_is_kept_for_its_readers(runs: Runs) -> None:
    """A run whose time is over waits for a reader of this process, as long again as it was to be kept."""
    run = await runs.start("chat.1", words(400), options=RunOptions(keep_for=0.2))
    await run.wait()
    expiry = (await runs._opened()).monitor.expiry
    iterator = aiter(run.subscribe())
    await anext(iterator)
    [(due, _, _)] = expiry._drop
    [(_, latest)] = expiry._expiring.values()
    assert 0 < latest - due <= 0.2 + 1e-6  # of a clock that has been running for hours
    while expiry._drop:  # of time's doing
        await asyncio.sleep(0.02)
        await expiry.drop_old()
    rest = [event async for event in iterator]
    assert rest[-1].event == "newswire.end"


@pytest.mark.slow
async def test_closing_waits_for_no_log_and_no_source() -> None:
    """A log that is away and a source that ignores its end hold up the end of a process for a lease at most."""
    hub = Hub()
    runs = Runs(hub, public=True, worker=WORKER)
    stubborn = asyncio.Event()

    async def ignores() -> None:
        while not stubborn.is_set():
            try:
                await stubborn.wait()
            except asyncio.CancelledError:
                pass

    async with asyncio.timeout(PATIENCE):
        await runs.start("job", ignores)
        await asyncio.sleep(0)
        log: Any = hub.log

        def away(batches: Any, settle: Any) -> None:
            pass  # and never calls back

        log.submit = away
        await runs.close()
        stubborn.set()
        await hub.close()
