"""The parts of `LogSuite` about `read` and `follow`: which events, in what order, nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import anyio
import pytest

from newswire.errors import Closed
from newswire.log.channels import Channels, name_or_pattern
from newswire.log.engine import Entry
from newswire.log.log import Log
from newswire.testing.log_base import (
    PATIENCE,
    LogTests,
    MakeLog,
    closing,
    offsets,
    opened,
    publish,
    read_all,
    read_pages,
    take,
)
from newswire.wire.event import Event


class ReadTests(LogTests):
    """What `read` promises."""

    async def test_only_these_channels(self, log: Log) -> None:
        """A page has the events of the channels asked for, in the order of the log."""
        for number in range(12):
            await publish(log, f"c{number % 4}", str(number))
        assert [entry.data for entry in await read_all(log, "c1")] == ["1", "5", "9"]
        assert [entry.data for entry in await read_all(log, "c3", "c1", "none")] == ["1", "3", "5", "7", "9", "11"]

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("orders", ["orders"]),
            ("orders.*", ["orders.eu", "orders.us"]),
            ("orders.>", ["orders.eu", "orders.us", "orders.eu.42"]),
            ("*", ["orders", "other"]),
            ("*.eu", ["orders.eu"]),
            ("*.*.42", ["orders.eu.42"]),
            (">", ["orders", "orders.eu", "orders.us", "orders.eu.42", "other", "other.a%_b"]),
            ("none.>", []),
        ],
    )
    async def test_patterns(self, log: Log, pattern: str, expected: list[str]) -> None:
        """A pattern's `*` is one token, its `>` one or more, and nothing else in it is special."""
        for channel in ("orders", "orders.eu", "orders.us", "orders.eu.42", "other", "other.a%_b"):
            await publish(log, channel, channel)
        assert [entry.channel for entry in await read_all(log, pattern)] == expected

    async def test_pattern_and_name(self, log: Log) -> None:
        """A set of patterns and names gives each event once, though several of them match."""
        for channel in ("a.1", "b", "a.2", "c"):
            await publish(log, channel, channel)
        assert [entry.data for entry in await read_all(log, "a.*", "a.1", "a.>", "b")] == ["a.1", "b", "a.2"]

    async def test_pattern_sees_new_channels(self, log: Log) -> None:
        """A channel that appears after a pattern was read is found by the same pattern."""
        await publish(log, "a.1", "1")
        assert [entry.data for entry in await read_all(log, "a.*")] == ["1"]
        await publish(log, "a.2", "2")
        assert [entry.data for entry in await read_all(log, "a.*")] == ["1", "2"]

    async def test_names_are_cased_and_exact(self, log: Log) -> None:
        """Channels that differ in case or in Unicode form are different channels."""
        for channel in ("news", "News", "caf\u00e9", "cafe\u0301"):
            await publish(log, channel, channel)
        for channel in ("news", "News", "caf\u00e9", "cafe\u0301"):
            assert [entry.data for entry in await read_all(log, channel)] == [channel]

    async def test_after(self, log: Log) -> None:
        """A page begins right after the offset given."""
        first, second, third = await publish(log, "a", "1", "2", "3")
        assert offsets(await read_all(log, "a", after=first)) == [second, third]
        assert offsets(await read_all(log, "a", after=second)) == [third]

    async def test_at_the_end(self, log: Log) -> None:
        """A page from the end or beyond is empty and goes nowhere; one of an empty log too."""
        assert (await log.read(Channels(["a"]), 0, 10)).through == 0
        [latest] = await publish(log, "a", "1")
        for after in (latest, latest + 1000, 2**62):
            page = await log.read(Channels(["a"]), after, 10)
            assert (list(page.entries), page.through) == ([], after)

    async def test_limit(self, log: Log) -> None:
        """A page has at most `limit` entries, and says that it goes no further than its last."""
        numbers = await publish(log, "a", "1", "2", "3", "4")
        page = await log.read(Channels(["a"]), 0, 3)
        assert offsets(page.entries) == numbers[:3]
        assert page.through == numbers[2]
        page = await log.read(Channels(["a"]), page.through, 3)
        assert offsets(page.entries) == numbers[3:]

    @pytest.mark.parametrize("limit", [0, -5])
    async def test_limit_is_at_least_one(self, log: Log, limit: int) -> None:
        """A limit below 1 is 1: a reader always gets on."""
        await publish(log, "a", "1", "2")
        assert [entry.data for entry in (await log.read(Channels(["a"]), 0, limit)).entries] == ["1"]

    async def test_through_passes_other_channels(self, log: Log) -> None:
        """A reader of a quiet channel gets to the end of the log without an event."""
        await publish(log, "busy", *map(str, range(20)))
        latest = (await log.span()).latest
        assert await read_all(log, "quiet", "quiet.*") == []
        assert (await read_pages(log, ["quiet"]))[-1].through == latest
        assert (await read_pages(log, ["quiet.*"]))[-1].through == latest

    @pytest.mark.parametrize("seed", range(5))
    async def test_pages_join(self, log: Log, seed: int) -> None:
        """Pages of any size, from any place, give each event of their channels exactly once, in order."""
        dice = random.Random(seed)
        names = [f"{dice.choice('ab')}.{number}" for number in range(120)]
        stored: list[tuple[int, str, str]] = []
        while len(stored) < 400:
            batch = [(dice.choice(names), Event(str(dice.random()))) for _ in range(dice.randint(1, 40))]
            positions = await log.append(batch)
            stored += [(at.offset, name, event.data) for at, (name, event) in zip(positions, batch, strict=True)]
        for wanted in ([names[0]], names[:7], names[:100], ["a.*"], [">"], ["b.>", *names[:3]]):
            channels = Channels(map(name_or_pattern, wanted))
            after = dice.choice([0, stored[dice.randrange(400)][0]])
            expected = [each for each in stored if each[1] in channels and each[0] > after]
            found = await read_all(log, *wanted, after=after, limit=dice.choice([1, 7, 100, 1000]))
            assert [(entry.offset, entry.channel, entry.data) for entry in found] == expected

    async def test_pages_of_large_events(self, log: Log) -> None:
        """A page of large events ends early, and the next goes on where it ended."""
        large = "x" * min(2**20, log.limits.event_bytes - 2)
        await log.append([("a", Event(f"{number}{large}")) for number in range(12)])
        pages = await read_pages(log, ["a"])
        assert len(pages) > 1
        assert [entry.data[:2] for page in pages for entry in page.entries] == [
            f"{number}x"[:2] for number in range(12)
        ]

    async def test_many_channels(self, log: Log) -> None:
        """Hundreds of channels are read by name and by pattern in the order of the log."""
        names = [f"user.{number}" for number in range(500)]
        await log.append([(name, Event(name)) for name in names])
        assert [entry.data for entry in await read_all(log, "user.*")] == names
        assert [entry.data for entry in await read_all(log, *names[100:400])] == names[100:400]

    async def test_nothing_lost(self, log: Log) -> None:
        """Where nothing was removed, nothing was lost."""
        await publish(log, "a", "1")
        for wanted in (["a"], ["none"], [">"], ["none.*"]):
            assert (await log.read(Channels(map(name_or_pattern, wanted)), 0, 1)).lost == 0


class FollowTests(LogTests):
    """What `follow` promises."""

    async def test_from_the_beginning(self, log: Log) -> None:
        """A follower after offset 0 gets all there is, then what comes."""
        before = await publish(log, "a", "1", "2")
        async with closing(log.follow(0)) as follower:
            assert offsets(await take(follower, 2)) == before
            later = await publish(log, "b", "3")
            assert offsets(await take(follower, 1)) == later

    async def test_from_a_position(self, log: Log) -> None:
        """A follower gets what comes after its position only."""
        first, *rest = await publish(log, "a", "1", "2", "3")
        async with closing(log.follow(first)) as follower:
            assert offsets(await take(follower, 2)) == rest

    async def test_from_now(self, log: Log) -> None:
        """A follower without a position gets what is appended once it is there, and nothing before."""
        await publish(log, "a", "before")
        async with closing(log.follow()) as follower:
            waiting = asyncio.ensure_future(anext(follower))
            offset, data = 0, ""
            with anyio.fail_after(PATIENCE):
                while not waiting.done():  # when a follower is there can't be seen but by what it gets
                    await publish(log, "a", data)
                    await asyncio.sleep(0.01)
            entries = await waiting
            offset = entries[0].offset
            assert all(entry.data == "" for entry in entries)
            assert offset > 1
            last = (await log.span()).latest
            got = offsets(entries)
            while got[-1] < last:
                got += offsets(await take(follower, 1))
            assert got == list(range(got[0], last + 1))

    async def test_from_the_future(self, log: Log) -> None:
        """A follower after an offset that is not there yet waits for what comes after it."""
        [latest] = await publish(log, "a", "1")
        async with closing(log.follow(latest + 2)) as follower:
            numbers = await publish(log, "a", "2", "3", "4", "5")
            assert offsets(await take(follower, 2)) == numbers[2:]

    async def test_entries_are_whole(self, log: Log) -> None:
        """A follower's entries are what a reader gets, stored before or while it follows."""
        await log.append([("a", Event("1", "kind")), ("b", Event("2"))])
        async with closing(log.follow(0)) as follower:
            entries = await take(follower, 2)
            await log.append([("c", Event("3 \U0001f600")), ("a", Event("4", "kind"))])
            entries += await take(follower, 2)
        assert [entry[1:4] for entry in entries] == [
            ("a", "kind", "1"),
            ("b", "message", "2"),
            ("c", "message", "3 \U0001f600"),
            ("a", "kind", "4"),
        ]

    async def test_several_followers(self, log: Log) -> None:
        """Each follower gets everything after its own position."""
        numbers = await publish(log, "a", *map(str, range(10)))
        for start in (0, 3, 9):
            async with closing(log.follow(start and numbers[start - 1])) as follower:
                assert offsets(await take(follower, 10 - start)) == numbers[start:]
        async with closing(log.follow(0)) as one, closing(log.follow(numbers[-1])) as other:
            assert offsets(await take(one, 10)) == numbers
            [last] = await publish(log, "b", "x")
            assert offsets(await take(one, 1)) == offsets(await take(other, 1)) == [last]

    @pytest.mark.parametrize("seed", range(3))
    async def test_while_others_append(self, log: Log, seed: int) -> None:
        """Followers that start and stop at any time, while 64 publishers append, lose nothing and double nothing."""
        dice = random.Random(seed)

        async def publisher() -> None:
            for _ in range(6):
                await log.append([(dice.choice("abc"), Event("x" * dice.randint(0, 99)))] * dice.randint(1, 5))
                if dice.random() < 0.3:
                    await asyncio.sleep(dice.random() / 100)

        async def follower(begin: int) -> list[int]:
            at = begin
            got: list[int] = []
            while not done.is_set() or at < (await log.span()).latest:
                async with closing(log.follow(at)) as follower:  # starts over now and then
                    for _ in range(dice.randint(1, 5)):
                        if at < (await log.span()).latest:
                            got += offsets(await take(follower, 1))
                            at = got[-1]
                await asyncio.sleep(0.001)
            return got

        done = asyncio.Event()
        followers = [asyncio.ensure_future(follower(0)) for _ in range(3)]
        await asyncio.gather(*(publisher() for _ in range(64)))
        done.set()
        latest = (await log.span()).latest
        async with closing(log.follow(0)) as whole:
            expected = offsets(await take(whole, latest))
        assert len(expected) == len(set(expected))
        assert expected == sorted(expected)
        with anyio.fail_after(PATIENCE):
            assert await asyncio.gather(*followers) == [expected] * 3

    async def test_a_slow_follower(self, log: Log) -> None:
        """A follower that takes nothing for a long while gets all of it afterwards, and no one waits for it."""
        async with closing(log.follow(0)) as follower:
            first = await publish(log, "a", "first")
            assert offsets(await take(follower, 1)) == first
            many = [await log.append([("a", Event("x" * 100))] * 100) for _ in range(200)]
            expected = [position.offset for positions in many for position in positions]
            assert offsets(await take(follower, len(expected))) == expected

    async def test_cancelled(self, log: Log) -> None:
        """A follower that is cancelled while it waits frees what it holds; the log and the others go on."""
        follower = log.follow(0)
        waiting = asyncio.ensure_future(anext(follower))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        numbers = await publish(log, "a", "1")
        async with closing(log.follow(0)) as other:
            assert offsets(await take(other, 1)) == numbers

    async def test_cancelled_and_called_again(self, log: Log) -> None:
        """A follower whose wait was cancelled goes on after what it gave, and has lost nothing meanwhile."""
        before = await publish(log, "a", "before")
        # Without a place it begins with what comes once it is there: a slow log may not be before the first end.
        async with closing(log.follow(before[-1])) as follower:
            for text in ("1", "2"):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(follower), 0.05)
                numbers = await publish(log, "a", text)
                assert offsets(await take(follower, 1)) == numbers

    async def test_ends_with_the_log(self, make_log: MakeLog) -> None:
        """A follower that waits ends when the log is closed, and one that begins later gets an error."""
        async with opened(make_log()) as log:
            await publish(log, "a", "1")
            follower = log.follow(0)
            await take(follower, 1)
            waiting = asyncio.ensure_future(_rest(follower))
            await asyncio.sleep(0)
            await log.close()
            with anyio.fail_after(PATIENCE):
                assert await waiting == []
            with pytest.raises(Closed):
                await anext(log.follow(0))


async def _rest(follower: AsyncIterator[Sequence[Entry]]) -> list[Entry]:
    return [entry async for batch in follower for entry in batch]
