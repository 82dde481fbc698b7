"""Records of runs that a later version has stored: read, and written again, without losing what it has added."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from newswire import Hub
from newswire.log import open_log
from newswire.log.engine import Entry
from newswire.runs import End, Runs
from newswire.runs.store.record import Record, out_channel, read_end, record_channel
from newswire.runs.store.store import RunStore
from newswire.wire.event import Event
from newswire.wire.reserved import END

pytestmark = pytest.mark.anyio

LATER: dict[str, Any] = {"priority": 3, "offset": "theirs", "more": ["theirs"], "end": {"cost": {"tokens": 7}}}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub on a file."""
    async with Hub(open_log(f"sqlite:///{tmp_path}/runs.db")) as hub:
        yield hub


async def stored(hub: Hub, run_id: str) -> dict[str, Any]:
    """The newest record of a run, as the log has it."""
    [entry] = await RunStore(hub.log).log.newest([record_channel(run_id)])
    assert entry is not None
    found: dict[str, Any] = json.loads(entry.data)
    return found


async def add(hub: Hub, run_id: str, fields: dict[str, Any]) -> None:
    """Change a run's record as a later version would."""
    [entry] = await RunStore(hub.log).log.newest([record_channel(run_id)])
    assert entry is not None
    found = {"begun": entry.offset, **await stored(hub, run_id), **fields}  # the first record has no `begun` of its own
    await hub.log.append([(record_channel(run_id), Event(json.dumps(found), "record"))])


def test_unknown_fields_are_carried_along() -> None:
    """What a record was read with is written again, in the record and in its end, whatever the names are."""
    found = {"id": "a.1", "name": "a", "state": "ended", "created": 1.5, **LATER}
    found["end"] = {"reason": "failed", "error": {"type": "T", "message": "m"}, **LATER["end"]}
    record = Record.read(Entry(12, "$runs.run.a.1", "record", json.dumps(found), 0.0))
    assert (record.id, record.state, record.offset, record.begun) == ("a.1", "ended", 12, 12)
    assert record.end == End("failed", {"type": "T", "message": "m"})
    assert json.loads(record.event().data) == {**found, "begun": 12}


def test_a_known_field_is_no_unknown_one() -> None:
    """What this version changes is what is stored, and a record of its own has nothing but its own fields."""
    record = Record(id="a.1", name="a", state="waiting", created=1.5)
    again = Record.read(Entry(1, "$runs.run.a.1", "record", record.event().data, 0.0))
    assert not again.more
    assert json.loads(again.event().data) == {"id": "a.1", "name": "a", "state": "waiting", "created": 1.5, "begun": 1}


def test_an_end_with_more_is_an_end() -> None:
    """Of the last event of a run, readers take what they know."""
    assert read_end('{"reason":"done","result":1,"cost":2}') == End("done", result=1)


async def test_a_run_of_a_later_version_is_claimed_and_ended(hub: Hub) -> None:
    """Each of the changes that a record goes through keeps what the later version has added."""
    async with Runs(hub, public=True) as runs:
        run = await runs.start("report.7")
        await add(hub, run.id, {"priority": 3})
        async with runs.attach(run.id) as attached:
            await attached.write("a ")
            await attached.write("b")
            assert (await stored(hub, run.id))["state"] == "running"
            assert (await stored(hub, run.id))["priority"] == 3
        assert await run.wait() == End("done")
        ended = await stored(hub, run.id)
        assert (ended["state"], ended["priority"]) == ("ended", 3)


async def test_runs_of_a_later_version_are_watched_and_read(hub: Hub) -> None:
    """A process that opens its runs beside them reads their records, their events and their ends, and folds them."""
    store = RunStore(hub.log)
    first = Record(id="a.1", name="a", state="running", created=1.5, more={"priority": 3})
    opened = await store.create(first, first.event())
    assert opened is not None
    ended = {**json.loads(opened.event().data), "state": "ended", "ended_at": 2.0}
    end = {"reason": "stopped", "by": "ada"}
    await hub.log.append(
        [
            (out_channel("a.1"), Event("text")),
            (out_channel("a.1"), Event(json.dumps(end), END)),
            (record_channel("a.1"), Event(json.dumps({**ended, "end": end}), "record")),
        ]
    )
    async with Runs(hub, public=True) as runs:
        async with asyncio.timeout(30):
            await (await runs._opened()).monitor.seen.wait()
        run = await runs.get(name="a")
        assert await run.end() == await run.wait() == End("stopped")
        assert await run.text() == "text"
        assert await store.compact("a.1")
        folded = await stored(hub, "a.1")
        assert (folded["priority"], folded["end"]) == (3, end)
        assert [json.loads(event.data) async for event in run.subscribe() if event.event == END] == [end]
