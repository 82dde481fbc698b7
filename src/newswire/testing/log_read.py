"""The part of `LogSuite` about `read`: which events, in what order, and what a page says about itself."""

from __future__ import annotations

import random

import pytest

from newswire.log.channels import Channels, name_or_pattern
from newswire.log.log import Log
from newswire.testing.log_base import LogTests, offsets, publish, read_all, read_pages
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
