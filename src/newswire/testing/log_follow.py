"""The part of `LogSuite` about `follow`: nothing lost, nothing doubled, in order, whoever appends meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import anyio
import pytest

from newswire.errors import Closed
from newswire.log.engine import Entry
from newswire.log.log import Log
from newswire.testing.log_base import PATIENCE, LogTests, MakeLog, closing, offsets, opened, publish, take
from newswire.wire.event import Event


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
