"""`LedgerSuite`: what a log with the powers of `Ledger` keeps to. Subclass it like `LogSuite`, beside it."""

from __future__ import annotations

import anyio
import pytest

from newswire.errors import InvalidChannel, InvalidEvent
from newswire.log.base import Log, Retention
from newswire.log.channels import Channels, Pattern
from newswire.log.ledger import Guarded, Ledger
from newswire.testing.log_base import LogTests, MakeLog, closing, lost, offsets, opened, publish, read_all, take
from newswire.wire.event import Event


class LedgerSuite(LogTests):
    """Subclass it, with a fixture `make_log`; see `newswire.testing.LogSuite`."""

    @pytest.fixture
    def ledger(self, log: Ledger) -> Ledger:
        """The same log, as what it can do beside."""
        assert isinstance(log, Ledger)
        return log

    async def test_a_batch_is_stored_if_nothing_came_in_between(self, log: Log, ledger: Ledger) -> None:
        """The condition is the newest offset of one channel; the batch may go to others."""
        [newest] = await publish(log, "control", "start")
        batch = Guarded([("data", Event("a")), ("data", Event("b")), ("control", Event("end"))], "control", newest)
        [stored] = await ledger.append_guarded([batch])
        assert stored == newest + 1
        assert await ledger.append_guarded([batch]) == [None]
        assert [entry.data for entry in await read_all(log, "data", "control")] == ["start", "a", "b", "end"]

    async def test_each_batch_is_judged_after_the_one_before(self, log: Log, ledger: Ledger) -> None:
        """Of two batches of one call that claim the same channel the first is stored; others are not held back."""
        first, second = (Guarded([("claim", Event(name))], "claim", 0) for name in ("first", "second"))
        other = Guarded([("else", Event("other"))], "unheard of", 0)
        assert [result is None for result in await ledger.append_guarded([first, second, other])] == [
            False,
            True,
            False,
        ]
        assert [entry.data for entry in await read_all(log, "claim", "else")] == ["first", "other"]

    async def test_one_of_many_at_once_succeeds(self, make_log: MakeLog, log: Log, ledger: Ledger) -> None:
        """However many claim a channel at the same time, from however many logs on one storage, one gets it."""
        async with opened(make_log() if self.durable else log) as another:
            assert isinstance(another, Ledger)
            ledgers = ledger, another
            won: list[int] = []

            async def claim(which: int) -> None:
                [result] = await ledgers[which % 2].append_guarded(
                    [Guarded([("claim", Event(str(which)))], "claim", 0)]
                )
                if isinstance(result, int):
                    won.append(which)

            async with anyio.create_task_group() as tasks:
                for which in range(50):
                    tasks.start_soon(claim, which)
            assert len(won) == 1
            assert [entry.data for entry in await read_all(log, "claim")] == [str(won[0])]

    async def test_retention_does_not_set_a_condition_back(self, make_log: MakeLog) -> None:
        """A channel whose events were all removed by retention has not become new."""
        async with opened(make_log(retention={"claim": Retention(max_events=1)})) as log:
            assert isinstance(log, Ledger)
            before, newest = await publish(log, "claim", "a", "b")
            await log.trim()
            assert await log.append_guarded([Guarded([("claim", Event("c"))], "claim", before)]) == [None]
            assert await log.append_guarded([Guarded([("claim", Event("c"))], "claim", newest)]) != [None]

    @pytest.mark.parametrize("bad", [("no good", Event("x")), ("good", Event("x", id="1"))])
    async def test_a_bad_event_refuses_all(self, log: Log, ledger: Ledger, bad: tuple[str, Event]) -> None:
        """What can't be stored is refused before anything of any batch is."""
        good = Guarded([("good", Event("x"))], "good", 0)
        with pytest.raises((InvalidChannel, InvalidEvent)):
            await ledger.append_guarded([good, Guarded([bad], "other", 0)])
        assert await read_all(log, "good") == []

    async def test_followers_see_what_was_stored(self, log: Log, ledger: Ledger) -> None:
        """Guarded batches reach followers like all others, in log order, and refused ones don't."""
        async with closing(log.follow(0)) as follower:
            await ledger.append_guarded([Guarded([("a", Event("1"))], "a", 0), Guarded([("a", Event("2"))], "a", 0)])
            await publish(log, "b", "3")
            assert [entry.data for entry in await take(follower, 2)] == ["1", "3"]

    async def test_a_refusal_hides_nothing(self, make_log: MakeLog, log: Log, ledger: Ledger) -> None:
        """A batch that is refused because another log was first does not hide what that one stored from followers."""
        async with opened(make_log() if self.durable else log) as another, closing(log.follow(0)) as follower:
            await publish(log, "a", "mine")
            await take(follower, 1)
            await publish(another, "a", "theirs")
            assert await ledger.append_guarded([Guarded([("a", Event("late"))], "a", 1)]) == [None]
            assert [entry.data for entry in await take(follower, 1)] == ["theirs"]

    async def test_newest_of_each(self, log: Log, ledger: Ledger) -> None:
        """The end of each channel, in the order asked for."""
        await publish(log, "a", "1", "2")
        await publish(log, "b", "3")
        entries = await ledger.newest(["b", "none", "a"])
        assert [entry and entry.data for entry in entries] == ["3", None, "2"]

    async def test_drop_removes_up_to_an_offset(self, log: Log, ledger: Ledger) -> None:
        """Readers of what is left are told of the loss; others are not concerned."""
        first, second, third = await publish(log, "a", "1", "2", "3")
        await publish(log, "b", "4")
        assert await ledger.drop({"a": second}) == 2
        assert offsets(await read_all(log, "a")) == [third]
        assert await lost(log, "a") == second
        assert await lost(log, "b") == 0
        assert first < second

    async def test_a_channel_that_was_dropped_is_new(self, log: Log, ledger: Ledger) -> None:
        """Nothing is left of it: no event, no loss, no condition; offsets go on all the same."""
        *_, last = await publish(log, "a", "1", "2")
        await publish(log, "b", "3")
        assert await ledger.drop({"a": last, "never seen": last}) == 2
        assert await ledger.newest(["a"]) == [None]
        assert await lost(log, "a") == 0
        assert (await log.read(Channels(["b", Pattern(">")]), 0, 10)).lost == 0
        [stored] = await ledger.append_guarded([Guarded([("a", Event("again"))], "a", 0)])
        assert isinstance(stored, int)
        assert stored > last
        assert [entry.data for entry in await read_all(log, ">")] == ["3", "again"]

    async def test_internal_channels_are_for_those_who_name_them(self, log: Log, ledger: Ledger) -> None:
        """A pattern sees a channel that begins with `$` only if it begins with the same token."""
        await publish(log, "$parts.a", "inside")
        await publish(log, "parts.a", "outside")
        assert [entry.data for entry in await read_all(log, ">")] == ["outside"]
        assert [entry.data for entry in await read_all(log, "*.a")] == ["outside"]
        assert [entry.data for entry in await read_all(log, "$parts.>")] == ["inside"]
        assert [entry.data for entry in await read_all(log, "$parts.a")] == ["inside"]
