"""The part of `LogSuite` about `append_if`, `newest` and `drop`."""

from __future__ import annotations

import anyio
import pytest

from newswire.errors import InvalidChannel, InvalidEvent
from newswire.log.channels import Channels, Pattern
from newswire.log.engine import Batch, Condition
from newswire.log.log import Log
from newswire.log.retention import Retention
from newswire.testing.log_base import (
    LogTests,
    MakeLog,
    closing,
    lost,
    offsets,
    opened,
    publish,
    read_all,
    submit,
    take,
)
from newswire.wire.event import Event


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
        other = Batch([("else", Event("other"))], Condition("unheard of", 0))
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
