"""The parts of `LogSuite` about `append`, `append_if`, `newest` and `drop`: what is stored and what is refused."""

from __future__ import annotations

import asyncio
import time

import anyio
import pytest

from newswire.errors import InvalidChannel, InvalidEvent, LimitExceeded
from newswire.log.channels import Channels, Pattern
from newswire.log.engine import Batch, Condition
from newswire.log.log import Log
from newswire.log.position import Position
from newswire.log.retention import Retention
from newswire.testing.log_base import LogTests, MakeLog, closing, lost, offsets, opened, publish, read_all, submit, take
from newswire.wire.event import Event


class AppendTests(LogTests):
    """What `append` promises."""

    async def test_positions_grow(self, log: Log) -> None:
        """Each event's position is in the log's epoch and after the one before."""
        positions = [(await log.append([(channel, Event("x"))]))[0] for channel in ("a", "b", "a")]
        epoch = (await log.span()).epoch
        assert [position.epoch for position in positions] == [epoch] * 3
        assert positions[0].offset < positions[1].offset < positions[2].offset
        assert (await log.span()).latest == positions[2].offset

    async def test_position_is_a_value(self, log: Log) -> None:
        """A position is what its text parses to."""
        [position] = await log.append([("a", Event("x"))])
        assert Position.parse(str(position)) == position

    async def test_batch_has_one_position_each(self, log: Log) -> None:
        """A batch of several channels gives each event's position, in the batch's order."""
        positions = await log.append([("a", Event("1")), ("b", Event("2", "kind")), ("a", Event("3"))])
        entries = await read_all(log, ">")
        assert offsets(entries) == [position.offset for position in positions]
        assert [entry[1:4] for entry in entries] == [("a", "message", "1"), ("b", "kind", "2"), ("a", "message", "3")]

    async def test_empty_batch(self, log: Log) -> None:
        """An empty batch is stored by doing nothing."""
        assert await log.append([]) == []
        assert (await log.span()).latest == 0

    async def test_single_events_come_in_order(self, log: Log) -> None:
        """Events that come in one pass of the event loop, alone and in batches, are stored in that order."""
        [first] = await log.append([("a", Event("first"))])

        async def store(number: int) -> list[Position]:
            name, event = f"c{number % 7}", Event(str(number), "kind" if number % 5 else "message")
            if number % 10 == 9:
                return await log.append([(name, event)] * 2)
            return [await log.append_one(name, event)]

        found = await asyncio.gather(*map(store, range(100)))
        positions = [position for each in found for position in each]
        assert [first, *positions] == sorted([first, *positions])
        assert all(type(position) is Position for position in positions)
        entries = await read_all(log, ">", limit=1000)
        assert offsets(entries) == [first.offset, *(position.offset for position in positions)]
        texts = [str(number) for number in range(100) for _ in range(2 if number % 10 == 9 else 1)]
        assert [entry.data for entry in entries[1:]] == texts
        assert [entry.channel for entry in entries[1:]] == [f"c{int(text) % 7}" for text in texts]

    @pytest.mark.parametrize("bad", [Event("x", id="1"), Event("x", retry=1)])
    async def test_a_single_event_that_is_refused(self, log: Log, bad: Event) -> None:
        """It keeps no other from being stored."""

        async def store(event: Event) -> Position:
            return await log.append_one("a", event)

        found = await asyncio.gather(*map(store, [Event("1"), bad, Event("2")]), return_exceptions=True)
        assert [type(each) for each in found] == [Position, InvalidEvent, Position]
        with pytest.raises(InvalidChannel):
            await log.append_one("a b", Event("x"))
        assert [entry.data for entry in await read_all(log, ">")] == ["1", "2"]

    async def test_64_publishers(self, log: Log) -> None:
        """Batches of concurrent publishers stay whole and in each publisher's order, and none is lost or doubled."""

        async def publisher(number: int) -> list[Position]:
            stored: list[Position] = []
            for turn in range(10):
                batch = [(f"from.{number}", Event(f"{number} {turn} {part}")) for part in range(3)]
                stored += await log.append(batch)
            return stored

        positions = await asyncio.gather(*(publisher(number) for number in range(64)))
        entries = await read_all(log, ">", limit=1000)
        by_offset = {entry.offset: entry for entry in entries}
        assert offsets(entries) == sorted(position.offset for stored in positions for position in stored)
        for number, stored in enumerate(positions):
            texts = [f"{number} {turn} {part}" for turn in range(10) for part in range(3)]
            assert [by_offset[position.offset].data for position in stored] == texts
        order = offsets(entries)
        for start in range(0, len(order), 3):
            assert len({by_offset[offset].data.rsplit(" ", 1)[0] for offset in order[start : start + 3]}) == 1

    @pytest.mark.parametrize(
        "data",
        [
            "",
            " ",
            "ünï¢ödé \u2028 \U0001f600",
            "one\ntwo\r\nthree\rfour",
            "a\x00b",
            '{"json": "\\""}',
            "'; DROP --",
            "\ufeff",
        ],
    )
    async def test_data_is_kept_as_it_is(self, log: Log, data: str) -> None:
        """Data comes back as it was published, whatever characters it has; a log that can't store NUL refuses it."""
        if "\0" in data and not log.limits.nul:
            with pytest.raises(InvalidEvent):
                await log.append([("a", Event(data))])
            return
        await log.append([("a", Event(data, "kind ünï"))])
        [entry] = await read_all(log, "a")
        assert (entry.data, entry.event) == (data, "kind ünï")

    async def test_large_event(self, log: Log) -> None:
        """An event of many megabytes, if the log takes such, comes back whole, beside small ones."""
        large = "0123456789abcdef" * (min(2**23, log.limits.event_bytes) // 16)
        await log.append([("a", Event("before")), ("a", Event(large)), ("a", Event("after"))])
        assert [entry.data for entry in await read_all(log, "a")] == ["before", large, "after"]

    async def test_time(self, log: Log) -> None:
        """An entry says when it was stored, in seconds since the Unix epoch."""
        before = time.time()
        await publish(log, "a", "x")
        [entry] = await read_all(log, "a")
        assert before - 5 < entry.time < time.time() + 5  # clocks of other machines may differ a little

    @pytest.mark.parametrize("channel", ["", ".", "a..b", "a.", "a b", "a*", "orders.*", ">", "a/b", "a\nb", "x" * 256])
    async def test_bad_channel(self, log: Log, channel: str) -> None:
        """A batch with a bad channel is refused as a whole."""
        with pytest.raises(InvalidChannel):
            await log.append([("good", Event("1")), (channel, Event("2"))])
        assert (await log.span()).latest == 0

    @pytest.mark.parametrize(("event", "field"), [(Event("x", id="7"), "id"), (Event("x", retry=5), "retry")])
    async def test_fields_that_are_not_the_publishers(self, log: Log, event: Event, field: str) -> None:
        """An id is the log's to give and a retry a stream's: a batch with either is refused as a whole."""
        with pytest.raises(InvalidEvent) as caught:
            await log.append([("a", Event("1")), ("a", event)])
        assert caught.value.field == field
        assert (await log.span()).latest == 0

    async def test_too_large(self, log: Log) -> None:
        """An event that is larger than any log may store is refused, with the limit."""
        with pytest.raises(LimitExceeded) as caught:
            await log.append([("a", Event("x" * (log.limits.event_bytes + 1)))])
        assert caught.value.limit == log.limits.event_bytes
        assert (await log.span()).latest == 0

    async def test_a_bad_batch_costs_no_other(self, log: Log) -> None:
        """A refused batch takes nothing from those that were appended at the same time."""
        good = [log.append([("a", Event(str(number)))]) for number in range(10)]
        bad = [log.append([("a", Event("x", id="1"))]) for _ in range(10)]
        results = await asyncio.gather(
            *(call for pair in zip(good, bad, strict=True) for call in pair), return_exceptions=True
        )
        assert [isinstance(result, InvalidEvent) for result in results] == [False, True] * 10
        assert [entry.data for entry in await read_all(log, "a")] == [str(number) for number in range(10)]

    async def test_the_batch_is_the_callers(self, log: Log) -> None:
        """What the caller does with its list afterwards changes nothing."""
        batch = [("a", Event("1"))]
        append = asyncio.ensure_future(log.append(batch))
        await asyncio.sleep(0)
        batch[0] = ("a", Event("2"))
        batch.append(("a", Event("3")))
        assert len(await append) == 1
        assert [entry.data for entry in await read_all(log, "a")] == ["1"]

    async def test_cancelled(self, log: Log) -> None:
        """An append whose caller is cancelled is stored whole or not at all, and others go on."""
        appends = [asyncio.ensure_future(log.append([("a", Event(f"{n}")), ("a", Event(f"{n}"))])) for n in range(20)]
        await asyncio.sleep(0)
        for append in appends[::2]:
            append.cancel()
        await asyncio.gather(*appends, return_exceptions=True)
        await publish(log, "a", "last")
        data = [entry.data for entry in await read_all(log, "a")]
        assert data[-1] == "last"
        assert data[0:-1:2] == data[1:-1:2]
        assert {str(number) for number in range(1, 20, 2)} <= set(data)


class ConditionTests(LogTests):
    """What storing under a condition promises, and what it needs."""

    async def test_a_batch_is_stored_if_nothing_came_in_between(self, log: Log) -> None:
        """The condition is the newest offset of one channel; the batch may go to others."""
        [newest] = await publish(log, "control", "start")
        events = [("data", Event("a")), ("data", Event("b")), ("control", Event("end"))]
        batch = Batch(events, Condition("control", newest))
        [stored] = await submit(log, batch)
        assert stored == newest + 1
        assert await submit(log, batch) == [None]
        assert [entry.data for entry in await read_all(log, "data", "control")] == ["start", "a", "b", "end"]

    async def test_each_batch_is_judged_after_the_one_before(self, log: Log) -> None:
        """Of two batches of one call that claim the same channel the first is stored; others are not held back."""
        first, second = (Batch([("claim", Event(name))], Condition("claim", 0)) for name in ("first", "second"))
        other = Batch([("else", Event("other"))], Condition("unheard.of", 0))
        assert [result is None for result in await submit(log, first, second, other)] == [
            False,
            True,
            False,
        ]
        assert [entry.data for entry in await read_all(log, "claim", "else")] == ["first", "other"]

    async def test_one_of_many_at_once_succeeds(self, make_log: MakeLog, log: Log) -> None:
        """However many claim a channel at the same time, from however many logs on one storage, one gets it."""
        async with opened(make_log() if self.durable else log) as another:
            logs = log, another
            won: list[int] = []

            async def claim(which: int) -> None:
                if await logs[which % 2].append_if([("claim", Event(str(which)))], Condition("claim", 0)):
                    won.append(which)

            async with anyio.create_task_group() as tasks:
                for which in range(50):
                    tasks.start_soon(claim, which)
            assert len(won) == 1
            assert [entry.data for entry in await read_all(log, "claim")] == [str(won[0])]

    async def test_retention_does_not_set_a_condition_back(self, make_log: MakeLog) -> None:
        """A channel whose events were all removed by retention has not become new."""
        retention = Retention(max_events=1)
        async with opened(make_log(retention={"claim": retention} if self.per_channel else retention)) as log:
            before, newest = await publish(log, "claim", "a", "b")
            await log.trim()
            assert await submit(log, Batch([("claim", Event("c"))], Condition("claim", before))) == [None]
            assert await submit(log, Batch([("claim", Event("c"))], Condition("claim", newest))) != [None]

    async def test_a_condition_may_name_the_life_of_its_offset(self, log: Log) -> None:
        """It does not hold in a log that has not got the event of that life, whatever has its offset."""
        [newest] = await publish(log, "claim", "a")
        epoch = (await log.span()).epoch
        other, own = (Batch([("claim", Event("b"))], Condition("claim", newest, each)) for each in ("other", epoch))
        first = Batch([("new", Event("b"))], Condition("new", 0, "other"))  # that there is none needs no life
        outcomes = [outcome for batch in (other, own, own, first) for outcome in await submit(log, batch)]
        assert [outcome is None for outcome in outcomes] == [True, False, True, False]
        assert [entry.data for entry in await read_all(log, "claim", "new")] == ["a", "b", "b"]
        together = await submit(
            log, *(Batch([("claim", Event("c"))], Condition("claim", newest + 1, each)) for each in ("other", epoch))
        )
        assert [outcome is None for outcome in together] == [True, False]

    @pytest.mark.parametrize("bad", [("no good", Event("x")), ("good", Event("x", id="1"))])
    async def test_a_bad_event_refuses_all(self, log: Log, bad: tuple[str, Event]) -> None:
        """What can't be stored is refused before anything of any batch is."""
        good = Batch([("good", Event("x"))], Condition("good", 0))
        with pytest.raises((InvalidChannel, InvalidEvent)):
            await submit(log, good, Batch([bad], Condition("other", 0)))
        assert await read_all(log, "good") == []

    async def test_followers_see_what_was_stored(self, log: Log) -> None:
        """Batches under a condition reach followers like all others, in log order, and refused ones don't."""
        async with closing(log.follow(0)) as follower:
            await submit(log, *(Batch([("a", Event(data))], Condition("a", 0)) for data in "12"))
            await publish(log, "b", "3")
            assert [entry.data for entry in await take(follower, 2)] == ["1", "3"]

    async def test_a_refusal_hides_nothing(self, make_log: MakeLog, log: Log) -> None:
        """A batch that is refused because another log was first does not hide what that one stored from followers."""
        async with opened(make_log() if self.durable else log) as another, closing(log.follow(0)) as follower:
            await publish(log, "a", "mine")
            await take(follower, 1)
            await publish(another, "a", "theirs")
            assert await submit(log, Batch([("a", Event("late"))], Condition("a", 1))) == [None]
            assert [entry.data for entry in await take(follower, 1)] == ["theirs"]

    async def test_newest_of_each(self, log: Log) -> None:
        """The end of each channel, in the order asked for."""
        await publish(log, "a", "1", "2")
        await publish(log, "b", "3")
        entries = await log.newest(["b", "none", "a"])
        assert [entry and entry.data for entry in entries] == ["3", None, "2"]

    async def test_drop_removes_up_to_an_offset(self, log: Log) -> None:
        """Readers of what is left learn of the loss; it does not concern others."""
        first, second, third = await publish(log, "a", "1", "2", "3")
        await publish(log, "b", "4")
        assert await log.drop({"a": second}) == 2
        assert offsets(await read_all(log, "a")) == [third]
        assert await lost(log, "a") == second
        assert await lost(log, "b") == 0
        assert first < second

    async def test_a_channel_that_was_dropped_is_new(self, log: Log) -> None:
        """Nothing is left of it: no event, no loss, no condition; offsets go on all the same."""
        *_, last = await publish(log, "a", "1", "2")
        await publish(log, "b", "3")
        assert await log.drop({"a": last, "never seen": last}) == 2
        assert await log.newest(["a"]) == [None]
        assert await lost(log, "a") == 0
        assert (await log.read(Channels(["b", Pattern(">")]), 0, 10)).lost == 0
        [stored] = await submit(log, Batch([("a", Event("again"))], Condition("a", 0)))
        assert isinstance(stored, int)
        assert stored > last
        assert [entry.data for entry in await read_all(log, ">")] == ["3", "again"]

    async def test_internal_channels_are_for_those_who_name_them(self, log: Log) -> None:
        """A pattern sees a channel that begins with `$` only if it begins with the same token."""
        await publish(log, "$parts.a", "inside")
        await publish(log, "parts.a", "outside")
        assert [entry.data for entry in await read_all(log, ">")] == ["outside"]
        assert [entry.data for entry in await read_all(log, "*.a")] == ["outside"]
        assert [entry.data for entry in await read_all(log, "$parts.>")] == ["inside"]
        assert [entry.data for entry in await read_all(log, "$parts.a")] == ["inside"]
