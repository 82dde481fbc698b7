"""What `verify` finds in a log, and what it takes for right."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.engines import Postgres, Valkey

from newswire.errors import LogCorrupt, LogError
from newswire.log import Log, MemoryLog, Retention, open_log
from newswire.log.engine import Page
from newswire.log.verify import verify
from newswire.testing.log_base import opened, publish
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio


async def filled(log: Log) -> None:
    """Store events, and remove some in each way."""
    for number in range(250):
        await log.append([(f"c{number}", Event("first")), ("few", Event("x")), ("$internal", Event("y"))])
    await log.trim()
    await log.drop({"c7": 2**40})


async def test_a_log_that_is_as_it_should_be(tmp_path: Path, valkey: Valkey) -> None:
    """Holes are counted and are no finding; internal channels are looked at; progress ends at twice the events."""
    rules = {"few": Retention(max_events=3)}
    logs = [
        MemoryLog(retention=rules),
        open_log(f"sqlite:///{tmp_path}/a.db", retention=rules),
        open_log(f"{valkey.url}?namespace=verify", retention=rules),
    ]
    for each in logs:
        async with opened(each) as log:
            await filled(log)
            seen: list[int] = []
            report = await verify(log, seen.append)
            assert report.findings == [], log
            assert (report.events, report.channels, report.holes) == (250 + 3 + 250 - 1, 251, 248)
            assert seen[-1] == 2 * report.events


async def test_a_channel_that_is_dropped_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that went between the two readings are no finding, although a log keeps no note of a drop."""
    async with opened(open_log(f"sqlite:///{tmp_path}/a.db")) as log:
        await publish(log, "a", *"12345")
        await publish(log, "b", *"678")
        await publish(log, "a", "9")
        read, drops = log.read, iter([{"a": 3, "b": 8}])

        async def after_a_drop(*args: Any, **options: Any) -> Page:
            await log.drop(next(drops, {}))
            return await read(*args, **options)

        monkeypatch.setattr(log, "read", after_a_drop)
        report = await verify(log)
        assert report.findings == []
        assert report.events == 9


async def test_what_was_changed_behind_our_back_in_a_file(tmp_path: Path) -> None:
    """An event under another channel's name in an index, a time that can't be, a name that is none, a wrong life."""
    async with opened(open_log(f"sqlite:///{tmp_path}/a.db")) as log:
        await publish(log, "a", *"12345")
        await publish(log, "b", *"678")
        connection = sqlite3.connect(tmp_path / "a.db")
        with connection:
            connection.execute("UPDATE newswire_events SET time = -5 WHERE offset = 2")
            connection.execute("UPDATE newswire_channels SET name = 'b c' WHERE name = 'b'")
            connection.execute("UPDATE newswire_lives SET after = 99")
        connection.close()
    async with opened(open_log(f"sqlite:///{tmp_path}/a.db")) as log:
        findings = "\n".join((await verify(log)).findings)
        assert "event 2 has a time that can't be: -5" in findings
        assert "event 6: channel 'b c' has the forbidden character ' '" in findings
        assert "began after 99, and the log ends at 8" in findings


async def test_a_list_of_a_channel_that_lacks_an_event(valkey: Valkey) -> None:
    """Readers of the channel would not get it, and would not learn that it is missing."""
    async with opened(open_log(f"{valkey.url}?namespace=verify2")) as log:
        await publish(log, "a", *"12345")
        valkey.ask("LREM", "{verify2}:c:a", "1", "3")
        assert (await verify(log)).findings == ["readers of a don't get event 3, which the log has"]


async def test_what_was_changed_behind_our_back_on_servers(valkey: Valkey, postgres: Postgres) -> None:
    """The error or the finding says what is damaged, and what to do."""
    async with opened(open_log(f"{valkey.url}?namespace=damaged")) as log:
        await publish(log, "a", "1")
        valkey.ask("XADD", "{damaged}:log", "50", "some", "thing")
        with pytest.raises(LogCorrupt, match=r"entry 50-0 of \{damaged\}:log is no event: XDEL it"):
            await verify(log)
        valkey.ask("XDEL", "{damaged}:log", "50")
        valkey.ask("HSET", "{damaged}:meta", "lives", "junk")
    async with opened(open_log(f"{valkey.url}?namespace=damaged")) as log:
        with pytest.raises(LogError, match="what the log knows of its lives is damaged"):
            await verify(log)
    async with opened(open_log(f"{postgres.url}?namespace=damaged")) as log:
        await publish(log, "a", "1", "2")
        await postgres.run(r"UPDATE newswire_damaged.events SET event = E'a\nb' WHERE number = 1")
        assert (await verify(log)).findings == [r"the type of event 1 has a line break: 'a\nb'"]
        await postgres.run("DROP TABLE newswire_damaged.channels")
        with pytest.raises(LogCorrupt, match="lacks some of its tables"):
            await verify(log)
