"""The part of `LogSuite` that walks at random: retention, drops and strange clocks, beside a plain model of them.

The model knows every event ever appended to each channel, and asks of the log only what retention promises: what no
limit has ever reached is there, what is past a limit is not there after `trim`, and `lost` is the newest event that is
missing, no more and no less.
"""

from __future__ import annotations

import random
from typing import ClassVar

import pytest

from newswire.log.channels import Channels, Pattern
from newswire.log.engine import Entry
from newswire.log.log import Log
from newswire.log.retention import Retention
from newswire.testing.log_base import LogTests, MakeLog, opened, read_all, read_pages
from newswire.wire.event import Event

_NAMES = ("a.1", "a.2", "a.3", "b.1", "b.2", "c")
_SETS = (["a.1"], ["a.1", "b.2", "none"], [Pattern("a.*")], [Pattern(">")], [Pattern("b.*"), "c"], [Pattern("none.>")])
_RULES = {
    "a.1": Retention(max_events=5),
    "a.2": Retention(max_age=50),
    "a.*": Retention(max_events=8, max_age=200),
    "b.1": Retention(max_bytes=40),
    "b.*": Retention(max_bytes=60, max_events=9, max_age=100),
}


class _Clock:
    """Goes forward, mostly; may be set to any time."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class _Channel:
    """What was appended to a channel since it was made, and what time it was later, at most."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str, float]] = []  # offset, data, time
        self.latest: list[float] = []  # of each event: the latest time that the log may have seen since
        self.cut = 0  # the offset up to which events were dropped

    def surely_kept(self, rule: Retention) -> set[int]:
        """What was not dropped, and no limit has reached."""
        kept: set[int] = set()
        size = 0
        for count, ((offset, data, time), latest) in enumerate(zip(self.events[::-1], self.latest[::-1], strict=True)):
            size += len(data.encode())
            if (
                offset > self.cut
                and (rule.max_events is None or count < rule.max_events)
                and (rule.max_bytes is None or size <= rule.max_bytes)
                and (rule.max_age is None or time + rule.max_age >= latest)
            ):
                kept.add(offset)
        return kept


class _Walk:
    """A log, its clock, and the model beside it."""

    def __init__(self, log: Log, clock: _Clock, dice: random.Random) -> None:
        self.log = log
        self.clock = clock
        self.dice = dice
        self.channels: dict[str, _Channel] = {}

    def tick(self, *, strange: bool) -> None:
        """Let time pass, or set the clock to some other time."""
        jump = self.dice.choice([-3e7, -300, -60, -1, 0, 60, 300, 3e7]) if strange else 0
        self.clock.now += jump if jump and self.dice.random() < 0.3 else self.dice.choice([0, 0, 1, 5, 30])
        for channel in self.channels.values():
            channel.latest = [max(latest, self.clock.now) for latest in channel.latest]

    async def append(self) -> None:
        """Append a batch."""
        batch = [
            (self.dice.choice(_NAMES), Event("x\u20ac"[self.dice.randint(0, 1)] * self.dice.randint(0, 9)))
            for _ in range(self.dice.randint(1, 12))
        ]
        for position, (name, event) in zip(await self.log.append(batch), batch, strict=True):
            channel = self.channels.setdefault(name, _Channel())
            channel.events.append((position.offset, event.data, self.clock.now))
            channel.latest.append(self.clock.now)

    async def drop(self) -> None:
        """Drop some of a channel, or all of it."""
        name = self.dice.choice(_NAMES)
        channel = self.channels.get(name)
        if channel is None:
            return
        cut = self.dice.choice([channel.events[-1][0], self.dice.choice(channel.events)[0]])
        await self.log.drop({name: cut})
        if not await read_all(self.log, name):
            del self.channels[name]  # it is as if it had never been
        else:
            channel.cut = max(channel.cut, cut)
            assert all(entry.offset > cut for entry in await read_all(self.log, name))

    async def check(self, rules: dict[str, Retention]) -> None:
        """Compare the log with the model."""
        kept: dict[str, list[Entry]] = {}
        end = (await self.log.span()).latest
        for name, channel in self.channels.items():
            rule = next((rules[each] for each in rules if name in Channels([Pattern(each)])), Retention())
            entries = kept[name] = await read_all(self.log, name, end=end)
            there = {entry.offset for entry in entries}
            assert channel.surely_kept(rule) <= there <= {offset for offset, _, _ in channel.events}
            assert rule.max_events is None or len(entries) <= rule.max_events
            assert rule.max_bytes is None or sum(len(entry.data.encode()) for entry in entries) <= rule.max_bytes
            assert rule.max_age is None or all(entry.time + rule.max_age >= self.clock.now for entry in entries)
        lost = {
            name: max({offset for offset, _, _ in channel.events}.difference(e.offset for e in kept[name]), default=0)
            for name, channel in self.channels.items()
        }
        in_small_pages = self.dice.choice(_SETS)
        for each in _SETS:
            wanted = Channels(each)
            expected = max((offset for name, offset in lost.items() if name in wanted), default=0)
            after = self.dice.randint(0, expected + 20)
            page = await self.log.read(wanted, after, 1)
            assert (page.lost if page.lost > after else 0) == (expected if expected > after else 0)
            everything = sorted(entry for name in kept if name in wanted for entry in kept[name])
            limit = self.dice.choice([1, 3]) if each is in_small_pages else 100
            pages = await read_pages(self.log, each, limit=limit, end=end)
            assert (pages[0].lost, pages[0].doubt) == (expected, 0)
            assert [entry for page in pages for entry in page.entries] == everything


class WalkTests(LogTests):
    """What retention promises, whatever happens.

    Attributes:
        clocked: whether `make_log` takes a `clock`: a function that returns the time (default True). Without one, or
            without limits for each channel, the walk is one of events and drops.
    """

    clocked: ClassVar[bool] = True

    @pytest.mark.parametrize("strange", [False, True], ids=["steady clock", "strange clock"])
    @pytest.mark.parametrize("seed", range(4))
    async def test_a_random_walk(self, make_log: MakeLog, seed: int, strange: bool) -> None:
        """Retention removes what its limits say and nothing else, whatever is dropped and wherever the clock goes."""
        dice = random.Random(seed)
        clock = _Clock()
        rules = _RULES if self.per_channel and self.clocked else {}
        options = {"retention": rules, "clock": clock} if rules else {}
        async with opened(make_log(**options)) as log:
            walk = _Walk(log, clock, dice)
            for _ in range(20 if rules else 10):
                for _ in range(dice.randint(1, 4)):
                    walk.tick(strange=strange)
                    await walk.append()
                    if dice.random() < 0.2:
                        await walk.drop()
                await log.trim()
                await walk.check(rules)
