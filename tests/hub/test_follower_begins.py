"""When a hub begins to follow its log: with its first subscription, which begins exactly where it asks to."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.fixtures.engines import Nats, Postgres, Valkey

from newswire import Hub, Pattern
from newswire.errors import LogUnavailable
from newswire.log.sqlite import SqliteLog
from newswire.testing import next_event

pytestmark = pytest.mark.anyio


class Watched(SqliteLog):
    """A log that counts what follows it, and does what a test wants where someone asks for its end."""

    tails = 0
    asked: Callable[[], Awaitable[object]] | None = None

    async def tail(self, *arguments, **options):  # type: ignore[no-untyped-def]
        self.tails += 1
        await super().tail(*arguments, **options)

    async def span(self):  # type: ignore[no-untyped-def]
        found = await super().span()
        if (asked := self.asked) is not None:
            self.asked = None
            await asked()
        return found


class Late(SqliteLog):
    """A log whose events come late to those who follow it, once `late` is a list: with `come`."""

    late: list[Callable[[], object]] | None = None

    async def tail(self, after, epoch, on_entries, channels=None):  # type: ignore[no-untyped-def]
        def take(entries, whole):  # type: ignore[no-untyped-def]
            if self.late is None:
                on_entries(entries, whole)
            else:
                self.late.append(lambda: on_entries(entries, whole))

        await super().tail(after, epoch, take, channels)

    def come(self) -> None:
        late, self.late = self.late or [], None
        for call in late:
            call()


async def test_a_hub_that_only_publishes_follows_nothing(tmp_path: Path) -> None:
    """From the first subscription on it does, once; until then it is as ready as it can be."""
    log = Watched(tmp_path / "log.db")
    async with Hub(log) as hub:
        assert hub.following
        await hub.publish("a", "1")
        await hub.publish("a", "2", version=1)
        assert (await hub.history("a"))[0].entries
        assert (hub.stats().lag, hub.stats().log, hub.stats().followed) == (0, "up", 0)
        assert hub.latest == (await log.span()).latest
        assert log.tails == 0
        await asyncio.gather(*(hub.subscribe("a").open() for _ in range(3)))
        await hub.publish("a", "3")
        assert hub.stats().followed == 1
        assert log.tails == 1


async def test_the_first_subscriptions_begin_after_what_was_stored(tmp_path: Path) -> None:
    """Whatever is published while the hub begins to follow: each gets what is published once it is open, and not what
    its process has published before."""
    log = Watched(tmp_path / "log.db")
    async with Hub(log) as hub:
        await hub.publish("a", "before")
        log.asked = lambda: hub.publish("a", "meanwhile")
        first = hub.subscribe("a")
        await first.open()
        second = hub.subscribe("a")  # nothing has turned since the log is followed
        await second.open()
        await hub.publish("a", "after")
        assert (await next_event(aiter(second))).data == "after"
        events = aiter(first)
        got = [(await next_event(events)).data]
        if got == ["meanwhile"]:
            got.append((await next_event(events)).data)
        assert got[-1] == "after"


async def test_the_other_channels_of_a_state_begin_after_what_was_stored(tmp_path: Path) -> None:
    """What its own process has published before is in the state, and no event of the other channels."""
    log = Late(tmp_path / "log.db")
    async with Hub(log, latest=["p.*"]) as hub:
        await hub.subscribe("p.a").open()
        log.late = []
        await hub.publish("news", "before")
        await hub.publish("p.a", "1")
        events = aiter(hub.subscribe(Pattern("p.*"), "news"))
        first = asyncio.ensure_future(next_event(events))
        await asyncio.sleep(0.01)
        log.come()
        assert (await first).data == "1"
        assert (await next_event(events)).event == "newswire.live"
        await hub.publish("news", "after")
        assert (await next_event(events)).data == "after"


async def test_a_subscription_that_is_cancelled_leaves_the_next_one_a_hub_that_follows(tmp_path: Path) -> None:
    """The one that asked first may be gone before the log has answered."""
    log = Watched(tmp_path / "log.db")
    async with Hub(log) as hub:
        await hub.publish("a", "1")
        answered = asyncio.Event()
        log.asked = answered.wait
        gone = asyncio.ensure_future(hub.subscribe("a").open())
        waiting = asyncio.ensure_future(hub.subscribe("a", start="earliest").open())
        await asyncio.sleep(0.01)
        gone.cancel()
        answered.set()
        await waiting
        assert log.tails == 1


async def test_a_log_that_is_away_refuses_the_first_subscription(tmp_path: Path) -> None:
    """As it refuses any other; the next one finds it back."""
    log = Watched(tmp_path / "log.db")

    async def away() -> None:
        raise LogUnavailable("away")

    async with Hub(log) as hub:
        await hub.publish("a", "1")
        log.asked = away
        with pytest.raises(LogUnavailable):
            await hub.subscribe("a").open()
        while not hub.following:
            await asyncio.sleep(0.01)
        subscription = hub.subscribe("a")
        await subscription.open()
        await hub.publish("a", "2")
        assert (await next_event(aiter(subscription))).data == "2"


async def test_a_hub_whose_opening_failed_when_no_one_waited_for_it(tmp_path: Path) -> None:
    """The caller was cancelled before the log refused: nothing is logged, and the next call tries again."""
    log = Watched(tmp_path / "log.db")
    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
    asked, answered = asyncio.Event(), asyncio.Event()

    async def away() -> None:
        asked.set()
        await answered.wait()
        raise LogUnavailable("away")

    log.asked = away
    hub = Hub(log)
    gone = asyncio.ensure_future(hub.open())
    await asked.wait()
    gone.cancel()
    await asyncio.wait([gone])
    answered.set()
    await asyncio.wait([task for task in asyncio.all_tasks() if task.get_name() == "newswire hub opens"])
    gc.collect()
    assert unseen == []
    async with hub:
        assert hub.stats().log == "up"


@pytest.mark.slow
async def test_a_log_that_is_another_one_by_then() -> None:
    """A hub that has only published takes the new one in; a cursor of the old one gets a gap."""
    with Valkey() as server:
        async with Hub(server.url) as hub:
            old = [await hub.publish("a", str(number)) for number in range(3)][-1]
            server.ask("FLUSHALL")
            await hub.publish("a", "of another life", wait=10)
            latest, behind = hub.subscribe("a"), hub.subscribe("a", after=old)
            await latest.open()
            await hub.publish("a", "2")
            assert (await next_event(aiter(latest))).data == "2"
            assert (await next_event(aiter(behind))).event == "newswire.gap"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["valkey", "nats", "postgres"])
async def test_on_a_server(engine: str, request: pytest.FixtureRequest) -> None:
    """A subscription never gets what its own process had published before, be the log's news on their way or not."""
    server: Valkey | Nats | Postgres = request.getfixturevalue(engine)
    for _ in range(10):
        async with Hub(server.url) as hub:
            for number in range(5):
                await asyncio.gather(*(hub.publish("begins", f"before {number}") for _ in range(5)))
                subscription = hub.subscribe("begins")
                await subscription.open()
                await hub.publish("begins", f"after {number}")
                assert (await next_event(aiter(subscription))).data == f"after {number}"
