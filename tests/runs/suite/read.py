"""What readers get: every part once and in order, from any cursor, folded or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from tests.runs.suite.base import RunTests, Taken, answer, read, words

from newswire.hub.options import StreamOptions
from newswire.log.channels import Channels
from newswire.log.position import Position
from newswire.runs import End, Progress, Reasoning, RunOptions, Runs, ToolCall
from newswire.runs.dialects import dialect_for
from newswire.runs.store.record import out_channel
from newswire.testing.log_base import PATIENCE
from newswire.wire.decoder import Decoder
from newswire.wire.event import Event
from newswire.wire.reserved import END, FOLDED, GAP


class RunReadTests(RunTests):
    """Readers, their cursors, and the forms in which an ended run is kept."""

    async def test_readers_get_every_part_once_in_order_and_the_end(self, runs: Runs, other: Runs) -> None:
        """Whoever comes, early or late, in this process or another, reads the same events with the same ids."""
        run = await runs.start("chat.1", words(30, 0.001))
        early = asyncio.create_task(read(run))
        events = await read(await other.get(run.id))
        assert [event.data for event in events[:-1]] == [f"{number} " for number in range(30)]
        assert (events[-1].event, events[-1].json()) == (END, {"reason": "done"})
        assert await early == events == await read(run)
        assert await run.text() == answer(30) == await (await other.get(run.id)).text()
        assert await run.end() == End("done")

    async def test_resume_at_every_cut(self, runs: Runs, other: Runs) -> None:
        """From whichever event a reader comes back, it gets each later one exactly once, live or finished."""
        run = await runs.start("chat.1", words(12, 0.002))
        live: list[Event] = []
        later: list[asyncio.Task[list[Event]]] = []
        async for event in run.subscribe():
            live.append(event)
            later.append(asyncio.create_task(read(await other.get(run.id), event.id)))
            if event.event == END:
                break
        for number, task in enumerate(later[:-1], 1):
            assert await task == live[number:]
            assert await read(run, live[number - 1].id) == live[number:]
        later[-1].cancel()

    async def test_cursors_are_untrusted(self, runs: Runs) -> None:
        """Any text for a cursor gives the run from its beginning, behind a gap that says so."""
        before = await runs.start("chat.0", words(3))
        await before.wait()
        run = await runs.start("chat.1", words(3))
        whole = await read(run)
        for cursor in ("garbage", "zzzzzzzz-1", f"{runs.hub.epoch}-999999999", "😀", "\0", "x" * 2**20):
            gap, *rest = await read(run, cursor)
            assert gap.event == GAP
            assert rest == whole
        of_another = (await read(before))[0].id
        assert await read(run, of_another) == whole  # its own run's alone, and all of it

    async def test_positions_are_the_logs(self, runs: Runs) -> None:
        """A run's ids are positions of the log like all others, so one cursor serves runs and channels."""
        run = await runs.start("chat.1", words(2))
        events = await read(run)
        after = await runs.hub.publish("news", "x")
        assert all(Position.parse(event.id or "") < after for event in events)

    async def test_a_name_means_its_newest_run(self, runs: Runs, other: Runs) -> None:
        """Who knows what a run belongs to, and not its id, gets the one that was started last."""
        await (await runs.start("chat.1", words(1))).wait()
        newest = await runs.start("chat.1", words(2))
        await runs.start("chat.2", words(3))
        assert (await other.get(name="chat.1")).id == newest.id

    async def test_a_folded_run_is_the_same_run(self, runs: Runs, other: Runs) -> None:
        """Folded, a run is one event of the log; readers get the same events with the same ids, from any cut on."""

        async def parts() -> AsyncIterator[Any]:
            yield Reasoning("thinking …")
            async for word in words(10):
                yield word
            yield {"json": 1}
            yield {"json": 2}
            yield Progress(1, 2)
            yield "\n\n😀 \u2028"
            yield ToolCall("1", "look")

        run = await runs.start("chat.1", parts(), options=RunOptions(compact_after=3600))
        whole = await read(run)
        text = await run.text()
        assert await runs.store.compact(run.id)
        assert not await other.store.compact(run.id)
        page = await runs.hub.log.read(Channels([out_channel(run.id)]), 0, 1000)
        assert [entry.event for entry in page.entries] == [FOLDED]
        for each in (runs, other):
            folded = await each.get(run.id)
            assert await read(folded) == whole
            assert await folded.text() == text
            assert await folded.end() == End("done")
            for number, event in enumerate(whole[:-1], 1):
                assert await read(folded, event.id) == whole[number:]

    async def test_a_run_that_is_being_folded_is_the_same_run(
        self, runs: Runs, other: Runs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While both forms are in the log, and for good where a worker died then, each reader gets each event once."""

        async def died(cuts: Any) -> int:
            return 0

        run = await runs.start("chat.1", words(10))
        whole = await read(run)
        monkeypatch.setattr(runs.store.log, "drop", died)
        assert await runs.store.compact(run.id)
        for each in (runs, other):
            found = await each.get(run.id)
            assert await found.text() == answer(10)
            for number, event in enumerate(whole[:-1], 1):
                assert await read(found, event.id) == whole[number:]
                reader = each._readers.read(
                    found.record, event.id, dialect=dialect_for("openai-chat", found.record.head)
                )
                sink = Taken(reader)
                await reader.open()
                reader.attach(sink, StreamOptions())
                await sink.over.wait()
                chunks = [each.json() for each in Decoder().feed(b"".join(sink.chunks)) if each.data != "[DONE]"]
                told = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
                assert "".join(told) == answer(10)

    async def test_runs_are_folded_in_time(self, runs: Runs) -> None:
        """It happens by itself, when an ended run has been kept as it was for long enough."""
        run = await runs.start("chat.1", words(10), options=RunOptions(compact_after=0.05))
        await run.wait()
        channel = Channels([out_channel(run.id)])
        with anyio.fail_after(PATIENCE):
            while len((await runs.hub.log.read(channel, 0, 1000)).entries) > 1:  # the log's doing
                await asyncio.sleep(0.02)
        assert await run.text() == answer(10)

    async def test_a_late_reader_of_the_native_dialect_gets_one_text(self, runs: Runs) -> None:
        """What a reader is behind with comes as one event, with the id of the last; the rest as it comes."""
        run = await runs.start("chat.1", words(50))
        whole = await read(run)
        for after, event in [(None, None), (whole[20].id, whole[20])]:
            reader = runs._readers.read(run.record, after, dialect=dialect_for("native", run.record.head))
            sink = Taken(reader)
            await reader.open()
            reader.attach(sink, StreamOptions())
            await sink.over.wait()
            events = Decoder().feed(b"".join(sink.chunks))
            assert [each.event for each in events] == ["message", END]
            begin = 0 if event is None else whole.index(event) + 1
            assert events[0].data == "".join(each.data for each in whole[begin:-1])
            assert (events[0].id, events[1].id) == (whole[-2].id, whole[-1].id)
