"""The part of `LogSuite` about what is kept: retention, reports of loss, closing and opening again."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from newswire.errors import Closed, TrimmedAway
from newswire.log.channels import Channels
from newswire.log.log import Log
from newswire.log.retention import Retention
from newswire.testing.log_base import (
    PATIENCE,
    LogTests,
    MakeLog,
    closing,
    lost,
    offsets,
    opened,
    publish,
    read_all,
    reported,
    take,
)
from newswire.wire.event import Event


class KeepTests(LogTests):
    """What retention, `span` and `close` promise."""

    async def test_without_retention(self, log: Log) -> None:
        """A log without retention removes nothing."""
        numbers = await publish(log, "a", *"123")
        assert await log.trim() == 0
        assert offsets(await read_all(log, "a")) == numbers

    async def test_max_events(self, make_log: MakeLog) -> None:
        """Each channel keeps its newest `max_events`, and a reader from before learns what it lost."""
        async with opened(make_log(retention=Retention(max_events=3))) as log:
            a = await publish(log, "a", *"12345")
            b = await publish(log, "b", *"12")
            await log.trim()
            if not self.per_channel:
                assert offsets(await read_all(log, ">")) == [a[4], *b]
                assert await reported(log, "a") == await reported(log, ">") == a[3]
                assert await reported(log, "a", after=a[3]) <= a[3]
                return
            assert offsets(await read_all(log, "a")) == a[2:]
            assert offsets(await read_all(log, "b")) == b
            assert [await lost(log, name) for name in "abc"] == [a[1], 0, 0]
            assert await lost(log, "b", "a") == await lost(log, ">") == a[1]
            assert (await log.read(Channels(["a"]), a[-1], 1)).lost == a[1]

    async def test_other_rules(self, make_log: MakeLog) -> None:
        """Rules that keep less count at once for what is there already, and need no new event."""
        if not self.per_channel or not self.durable:
            return
        async with opened(make_log(retention=Retention(max_events=10))) as log:
            numbers = await publish(log, "a", *map(str, range(20)))
            assert await log.trim() == 10
            async with opened(make_log(retention=Retention(max_events=3))) as other:
                assert await other.trim() == 7
                assert offsets(await read_all(other, "a")) == numbers[-3:]

    async def test_max_bytes(self, make_log: MakeLog) -> None:
        """Each channel keeps its newest events within `max_bytes` of UTF-8 data."""
        if not self.per_channel:
            await self._max_bytes_of_all(make_log)
            return
        async with opened(make_log(retention=Retention(max_bytes=10))) as log:
            a = await publish(log, "a", "12345", "1234", "\u20ac\u20ac")  # 5 + 4 + 6
            b = await publish(log, "b", "12345", "12345")
            await publish(log, "c", "x" * 11)
            await log.trim()
            assert offsets(await read_all(log, "a")) == a[1:]
            assert offsets(await read_all(log, "b")) == b
            assert await read_all(log, "c") == []

    async def _max_bytes_of_all(self, make_log: MakeLog) -> None:
        """The log keeps its newest events; what it stores beside their data may count as well."""
        async with opened(make_log(retention=Retention(max_bytes=2000))) as log:
            numbers = await publish(log, "a", *["x" * 100] * 30)
            await log.trim()
            kept = offsets(await read_all(log, "a"))
            assert 1 <= len(kept) <= 20
            assert kept == numbers[-len(kept) :]
            assert await reported(log, "a") == kept[0] - 1

    async def test_max_age(self, make_log: MakeLog) -> None:
        """Events older than `max_age` go, all of them if need be, and a reader learns what it lost."""
        async with opened(make_log(retention=Retention(max_age=0.01))) as log:
            numbers = await publish(log, "a", *"123")
            with anyio.fail_after(PATIENCE):
                while await read_all(log, "a"):
                    await log.trim()
            assert await (lost if self.per_channel else reported)(log, "a") == numbers[-1]

    async def test_first_matching_rule(self, make_log: MakeLog) -> None:
        """The first pattern that matches a channel counts for it; one that none matches keeps everything."""
        rules = {
            "a.1": Retention(),
            "a.*": Retention(max_events=1),
            ">": Retention(max_events=2),
            "b": Retention(max_events=1),
        }
        if not self.per_channel:
            with pytest.raises(ValueError, match="each pattern"):
                make_log(retention=rules)
            async with opened(make_log(retention={">": Retention(max_events=2)})) as log:
                await publish(log, "a", *"123")
                await log.trim()
                assert [entry.data for entry in await read_all(log, "a")] == ["2", "3"]
            return
        async with opened(make_log(retention=rules)) as log:
            for channel in ("a.1", "a.2", "b"):
                await publish(log, channel, *"123")
            await log.trim()
            assert [len(await read_all(log, channel)) for channel in ("a.1", "a.2", "b")] == [3, 1, 2]
        async with opened(make_log(retention={"other": Retention(max_events=1)})) as log:
            before = len(await read_all(log, "c"))
            await publish(log, "c", *"123")
            await log.trim()
            assert len(await read_all(log, "c")) == before + 3

    async def test_trim_is_idempotent(self, make_log: MakeLog) -> None:
        """Trimming what was trimmed removes nothing and changes nothing that readers see."""
        async with opened(make_log(retention=Retention(max_events=2))) as log:
            await publish(log, "a", *"12345")
            await log.trim()
            seen = await read_all(log, "a"), await lost(log, "a"), await log.span()
            assert await log.trim() == 0
            assert (await read_all(log, "a"), await lost(log, "a"), await log.span()) == seen

    async def test_limits_together(self, make_log: MakeLog) -> None:
        """Of several limits the strictest counts."""
        if not self.per_channel:
            async with opened(make_log(retention=Retention(max_events=3, max_bytes=10_000, max_age=3600))) as log:
                await publish(log, "a", *"12345")
                await log.trim()
                assert len(await read_all(log, "a")) == 3
                await publish(log, "a", *["x" * 6000] * 3)
                await log.trim()
                assert len(await read_all(log, "a")) == 1
            return
        async with opened(make_log(retention=Retention(max_events=3, max_bytes=10, max_age=3600))) as log:
            await publish(log, "small", *"12345")
            await publish(log, "large", *(["x" * 6] * 3))
            await log.trim()
            assert len(await read_all(log, "small")) == 3
            assert len(await read_all(log, "large")) == 1

    async def test_many_trims(self, make_log: MakeLog) -> None:
        """However often and however much is trimmed, a channel has exactly what its limit says."""
        if not self.per_channel:
            async with opened(make_log(retention=Retention(max_events=7))) as log:
                for turn in range(1, 6):
                    numbers = await log.append([(name, Event("x" * 10)) for name in "ab" for _ in range(turn * turn)])
                    await log.trim()
                    assert offsets(await read_all(log, ">"))[-7:] == [number.offset for number in numbers[-7:]]
                    assert len(await read_all(log, ">")) == min(7, numbers[-1].offset)
            return
        async with opened(make_log(retention={"a.*": Retention(max_events=7), "b": Retention(max_bytes=50)})) as log:
            for turn in range(1, 6):
                batch = [(channel, Event("x" * 10)) for channel in ("a.1", "a.2", "b", "c") for _ in range(turn * turn)]
                await log.append(batch)
                await log.trim()
            assert [len(await read_all(log, channel)) for channel in ("a.1", "a.2", "b", "c")] == [7, 7, 5, 55]

    async def test_large_trim(self, make_log: MakeLog) -> None:
        """Thousands of events are trimmed at once."""
        async with opened(make_log(retention=Retention(max_events=1 if self.per_channel else 3))) as log:
            for _ in range(5):
                await log.append([(f"c{number % 3}", Event("x")) for number in range(999)])
            await log.trim()
            assert len(await read_all(log, ">")) == 3
            span = await log.span()
            assert span.latest - span.earliest == 3

    async def test_span(self, make_log: MakeLog) -> None:
        """A span goes from just before the earliest kept event to the newest ever appended."""
        retention = Retention(max_events=1)
        async with opened(make_log(retention={"a": retention} if self.per_channel else retention)) as log:
            span = await log.span()
            assert (span.earliest, span.latest) == (0, 0)
            numbers = await publish(log, "a", *"123")
            await log.trim()
            span = await log.span()
            assert (span.earliest, span.latest) == (numbers[2] - 1, numbers[2])

    async def test_offsets_are_never_used_twice(self, make_log: MakeLog) -> None:
        """After everything was removed the log goes on where it was, with a new start too."""
        retention = Retention(max_bytes=1)
        async with opened(make_log(retention=retention)) as log:
            numbers = await publish(log, "a", "12", "34")
            await log.trim()
            assert (await log.span()).earliest == (await log.span()).latest == numbers[-1]
            if not self.durable:
                assert (await publish(log, "a", "56"))[0] > numbers[-1]
        if self.durable:
            async with opened(make_log(retention=retention)) as log:
                assert (await log.span()).latest == numbers[-1]
                assert (await publish(log, "a", "56"))[0] > numbers[-1]

    async def test_a_follower_hears_of_what_it_missed(self, make_log: MakeLog) -> None:
        """A follower from before a removed event gets that event or an error, and can go on from there."""
        async with opened(make_log(retention=Retention(max_events=2))) as log:
            numbers = await publish(log, "a", *"12345")
            await log.trim()
            after = 0
            try:
                async with closing(log.follow(after)) as follower:
                    assert offsets(await take(follower, 5)) == numbers
                return
            except TrimmedAway as error:
                after = error.through
            assert 0 < after <= numbers[2]
            async with closing(log.follow(numbers[2])) as follower:
                assert offsets(await take(follower, 2)) == numbers[3:]

    async def test_a_follower_keeps_up_with_retention(self, make_log: MakeLog) -> None:
        """A follower that keeps up gets every event of a channel that keeps one; of a log that keeps a few."""
        retention = Retention(max_events=1 if self.per_channel else 12)
        async with opened(make_log(retention=retention)) as log, closing(log.follow(0)) as follower:
            for _ in range(30):
                positions = await log.append([("a", Event("x"))] * 3)
                assert offsets(await take(follower, 3)) == [position.offset for position in positions]

    async def test_close(self, make_log: MakeLog) -> None:
        """A closed log says so to every call; closing it again does nothing."""
        log = make_log()
        await publish(log, "a", "1")
        await log.close()
        await log.close()
        for call in (log.append([("a", Event("2"))]), log.read(Channels(["a"]), 0, 1), log.span(), log.trim()):
            with pytest.raises(Closed):
                await call

    async def test_close_unused(self, make_log: MakeLog) -> None:
        """A log that was never used can be closed."""
        log = make_log()
        await log.close()
        with pytest.raises(Closed):
            await log.span()

    async def test_close_finishes_what_was_begun(self, make_log: MakeLog) -> None:
        """What was being appended when the log was closed is stored."""
        log = make_log()
        appends = [asyncio.ensure_future(log.append([("a", Event(str(number)))])) for number in range(50)]
        await asyncio.sleep(0)
        await log.close()
        positions = [position for stored in await asyncio.gather(*appends) for position in stored]
        assert len(positions) == 50
        if self.durable:
            async with opened(make_log()) as again:
                assert offsets(await read_all(again, "a")) == [position.offset for position in positions]

    async def test_open_again(self, make_log: MakeLog) -> None:
        """A durable log that is opened again is the same, with its epoch and its events; any other is a new one."""
        async with opened(make_log(retention=Retention(max_events=3))) as log:
            await publish(log, "a", *"12345")
            await log.trim()
            before = await log.span(), await read_all(log, "a"), await lost(log, "a")
        async with opened(make_log(retention=Retention(max_events=3))) as log:
            if self.durable:
                assert (await log.span(), await read_all(log, "a"), await lost(log, "a")) == before
            else:
                assert (await log.span()).epoch != before[0].epoch
                assert await read_all(log, "a") == []
