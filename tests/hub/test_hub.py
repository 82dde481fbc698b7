"""The hub on the real logs: order, no silent loss, exactly once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.fixtures.engines import Valkey

from newswire import Event, Hub, HubOptions, Pattern, Position, Retention, open_log
from newswire.errors import Closed, InvalidChannel, InvalidEvent, InvalidPosition
from newswire.hub import history
from newswire.hub.subscription import Subscription
from newswire.testing import next_event

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
async def hub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "PAGE_EVENTS", 16)
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/log.db"
    options = HubOptions(window_bytes=20_000, write_budget=2_000)
    async with Hub(open_log(url), options=options) as hub:
        yield hub


async def read(subscription: Subscription, until: str) -> list[Event]:
    events = []
    async for event in subscription:
        events.append(event)
        if event.data == until:
            break
    return events


@pytest.mark.slow
async def test_every_cursor_gets_each_later_event_exactly_once(hub: Hub) -> None:
    """From wherever a subscriber starts, in the window or far behind it, it sees all that follows, once, in order."""
    positions = [await hub.publish("a" if i % 3 else "b.x", f"{i}") for i in range(300)]
    reading = [
        asyncio.create_task(read(hub.subscribe("a", Pattern("b.*"), after=position), "end"))
        for position in positions[::7]
    ]
    for i in range(300, 400):
        await hub.publish("a", f"{i}")
    await hub.publish("b.x", "end")
    for i, events in zip(range(0, 300, 7), await asyncio.gather(*reading), strict=True):
        assert [event.data for event in events] == [f"{n}" for n in range(i + 1, 400)] + ["end"]
        offsets = [Position.parse(event.id or "").offset for event in events]
        assert offsets == sorted(set(offsets))
    assert hub.stats().pages_read > 0


async def test_patterns(hub: Hub) -> None:
    """`*` is one token, `>` all below; each event says its channel."""
    one = asyncio.create_task(read(hub.subscribe(Pattern("orders.*"), start="earliest"), "end"))
    below = asyncio.create_task(read(hub.subscribe(Pattern("orders.>"), start="earliest"), "end"))
    for channel in ("orders", "orders.eu", "orders.eu.42", "news", "orders.eu"):
        await hub.publish(channel, "x")
    await hub.publish("orders.eu", "end")
    assert [event.channel for event in await one] == ["orders.eu"] * 3
    assert [event.channel for event in await below] == ["orders.eu", "orders.eu.42", "orders.eu", "orders.eu"]


@pytest.mark.parametrize("cursor", ["zzz-5", "garbage" * 1000, "\0", "💥", "-1", "{epoch}-99999", "{epoch}--5"])
async def test_any_cursor_gives_a_stream(hub: Hub, cursor: str) -> None:
    """What is no place in this log gives a gap, then everything kept."""
    await hub.publish("a", "1")
    events = await read(hub.subscribe("a", after=cursor.replace("{epoch}", hub.epoch)), "1")
    assert [event.event for event in events] == ["newswire.gap", "message"]
    assert events[0].json()["reason"] in ("invalid", "epoch", "future")


@pytest.mark.parametrize("after", [5, 1.5, b"x-1", ("x", 1)])
async def test_what_is_no_cursor_by_its_type(hub: Hub, after: object) -> None:
    """It is a mistake of the program's, and said to be where it is made."""
    with pytest.raises(TypeError, match="`after` is a position, or the text of one, not"):
        hub.subscribe("a", after=after)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a position, or the text of one, is a str, not"):
        await hub.history("a", after=after)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"envelope": "no"}, "envelope is True or False, not 'no'"),
        ({"live": 1}, "live is True or False, not 1"),
        ({"presence": "no"}, "presence is True, False or a Member, not 'no'"),
        ({"transform": 3}, "transform is a Transform, not 3"),
        ({"coalesce": "3"}, "coalesce is a time of 0 to 60 seconds, not '3'"),
        ({"coalesce": True}, "coalesce is a time of 0 to 60 seconds, not True"),
        ({"max_rate": "3"}, "max_rate is a number of events a second, from 1/60 to 1000, not '3'"),
    ],
)
async def test_a_subscription_refuses_other_kinds(given: dict[str, Any], text: str) -> None:
    """Where it is made, and not when a client has come."""
    hub = Hub(latest=["a"])
    with pytest.raises((TypeError, ValueError)) as caught:
        hub.subscribe("a", **given)
    assert str(caught.value) == text


@pytest.mark.parametrize("wait", ["3", True, float("nan"), [1]])
async def test_a_wait_is_a_number(hub: Hub, wait: Any) -> None:
    """Nothing is stored with another one, whichever way it is published."""
    with pytest.raises(ValueError, match="wait is a number of seconds, not"):
        await hub.publish("a", "x", wait=wait)
    with pytest.raises(ValueError, match="wait is a number of seconds, not"):
        await hub.publish("a", "x", version=1, wait=wait)
    with pytest.raises(ValueError, match="wait is a number of seconds, not"):
        await hub.publish_many([("a", "x")], wait=wait)
    with pytest.raises(ValueError, match="timeout is a number of seconds, not"):
        await asyncio.to_thread(hub.sync.publish, "a", "x", timeout=wait)
    assert (await hub.history("a"))[0].entries == []


async def test_a_wait_without_end(hub: Hub) -> None:
    """Infinity is a number of seconds, and so is a time that is over."""
    await hub.publish("a", "x", wait=float("inf"))
    await hub.publish("a", "x", wait=-0.1)
    await asyncio.to_thread(hub.sync.publish, "a", "x", timeout=float("inf"))
    assert len((await hub.history("a"))[0].entries) == 3


@pytest.mark.parametrize(
    "events", ["x", ["ab"], [3], 3, None, [("a",)], [("a", "b", "c")], {"a": "x"}, [Event("x")], [{"a", "b"}]]
)
async def test_what_is_no_batch(hub: Hub, events: Any) -> None:
    """A batch has pairs, and a text of two characters is none."""
    with pytest.raises(
        TypeError, match=r"a batch is a list of pairs of channel and data, such as \[\('news', data\)\]"
    ):
        await hub.publish_many(events)


class Row(NamedTuple):
    """As a database gives it, or an application declares it."""

    channel: str
    data: Any


@pytest.mark.parametrize("pair", [("a", "x"), ["a", "x"], Row("a", "x")])
async def test_what_is_a_pair(hub: Hub, pair: Any) -> None:
    """Whatever has two things in an order."""
    await hub.publish_many([pair])
    [found] = (await hub.history("a"))[0].entries
    assert found.data == "x"


async def test_how_a_hub_is_looked_at(hub: Hub) -> None:
    """A limit that is no number, a channel that is no text, a mode that there is not."""
    with pytest.raises(ValueError, match="limit is a number of events, not '3'"):
        await hub.history("a", limit="3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit is a number of channels, 0 or more, not -1"):
        hub.channels(-1)
    with pytest.raises(TypeError, match="channel is a str, not 3"):
        hub.subscribers(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode is 'goodbye', 'drain' or 'cut', not 'now'"):
        await hub.shutdown(mode="now")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grace is a number of seconds, not '3'"):
        await hub.shutdown("3")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"log": None}, "a hub takes a log, or the URL of one such as 'sqlite:///events.db', not None"),
        ({"log": b"memory://"}, "a hub takes a log, or the URL of one such as 'sqlite:///events.db', not b'memory://'"),
        ({"contract": "x"}, "contract is a Contract, or a mapping from patterns to Contracts, not 'x'"),
        ({"latest": 3}, "latest is a list of names and patterns of channels, not 3"),
        ({"presence": True}, "presence is a list of names and patterns of channels, not True"),
        ({"coalesce": {"a": "3"}}, "coalesce is a time of 0 to 60 seconds, not '3'"),
    ],
)
def test_arguments_of_a_hub(given: dict[str, Any], text: str) -> None:
    """They are refused where the hub is made, by name."""
    with pytest.raises((TypeError, ValueError)) as caught:
        Hub(**given)
    assert str(caught.value) == text


async def test_loss_to_retention_is_told(tmp_path: Path) -> None:
    """A cursor behind what is kept gets a gap that says what is missing, then the earliest kept event."""
    log = open_log(f"sqlite:///{tmp_path}/log.db", retention={"a": Retention(max_events=3)})
    async with Hub(log, options=HubOptions(window_bytes=1)) as hub:
        positions = [await hub.publish("a", f"{i}") for i in range(10)]
        kept = await hub.publish("b", "kept")
        assert await log.trim() == 7
        events = await read(hub.subscribe("a", "b", after=positions[0]), "kept")
        assert [event.data for event in events[1:]] == ["7", "8", "9", "kept"]
        assert events[0].event == "newswire.gap"
        assert events[0].json() == {"reason": "trimmed", "after": str(positions[0]), "through": str(positions[6])}
        assert [event.data for event in await read(hub.subscribe("b", after=positions[0]), "kept")] == ["kept"]
        assert str(kept) == events[-1].id


async def test_publish_says_what_is_wrong(hub: Hub) -> None:
    """Bad input is refused where it is made, and nothing of its batch is stored."""
    with pytest.raises(InvalidChannel, match="forbidden"):
        await hub.publish_many([("good", "x"), ("bad channel", "y")])
    for event in ("error", "open", "newswire.gap", "a\nb"):
        with pytest.raises(InvalidEvent):
            await hub.publish("a", "x", event=event)
    with pytest.raises(InvalidEvent, match="UTF-8"):
        await hub.publish("a", b"\xff")
    with pytest.raises(InvalidEvent, match="JSON"):
        await hub.publish("a", object())
    page, _ = await hub.history(Pattern(">"))
    assert page.entries == []


async def test_what_is_published(hub: Hub) -> None:
    """A str is sent as it is, bytes as UTF-8, everything else as JSON."""
    await hub.publish_many([("a", "text"), ("a", "ü".encode()), ("a", {"n": None}), ("a", Event("e", "kind"))])
    page, position = await hub.history("a")
    assert [(entry.event, entry.data) for entry in page.entries] == [
        ("message", "text"), ("message", "ü"), ("message", '{"n":null}'), ("kind", "e"),
    ]  # fmt: skip
    assert position.offset == 4


async def test_history_refuses_a_position_past_the_end(hub: Hub) -> None:
    """A reader that went on from there would miss what comes before it; from the end itself there is nothing yet."""
    position = await hub.publish("a", "x")
    with pytest.raises(InvalidPosition, match="past what this log has"):
        await hub.history("a", after=Position(position.epoch, position.offset + 1))
    page, end = await hub.history("a", after=position)
    assert (page.entries, end) == ([], position)


async def test_leaving_the_loop_frees_the_subscription(hub: Hub) -> None:
    """Nothing is left of a reader that breaks out, or is cancelled."""
    await hub.publish("a", "x")
    await read(hub.subscribe("a", start="earliest"), "x")
    waiting = asyncio.create_task(read(hub.subscribe("a"), "never"))
    while hub.subscribers("a") == 0:
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    while hub.stats().subscribers:
        await asyncio.sleep(0)
    assert hub.channels() == {}


async def test_close_ends_readers(hub: Hub) -> None:
    """A reader's loop ends when the hub closes; afterwards everything says so."""
    reading = asyncio.create_task(read(hub.subscribe("a"), "never"))
    while hub.subscribers("a") == 0:
        await asyncio.sleep(0)
    await hub.close()
    assert await reading == []
    with pytest.raises(Closed):
        await hub.publish("a", "x")


async def test_threads_publish(hub: Hub) -> None:
    """`hub.sync` works from any thread but the loop's own."""
    position = await asyncio.to_thread(hub.sync.publish, "a", "from a thread")
    assert position.offset == 1
    with pytest.raises(RuntimeError, match="block"):
        hub.sync.publish("a", "x")


def test_scripts_publish(tmp_path: Path) -> None:
    """Without an event loop, a background thread runs one."""
    hub = Hub(f"sqlite:///{tmp_path}/log.db")
    assert hub.sync.publish("a", "x").offset == 1
    hub.sync.close()


async def test_two_processes_worth_of_hubs_on_one_file(tmp_path: Path) -> None:
    """What one hub publishes reaches the other's subscribers, interleaved with its own, once and in order."""
    url = f"sqlite:///{tmp_path}/log.db"
    async with Hub(url) as one, Hub(url) as two:
        reading = [asyncio.create_task(read(hub.subscribe("a", start="earliest"), "end")) for hub in (one, two)]
        for i in range(200):
            await (one if i % 2 else two).publish("a", f"{i}")
        await one.publish("a", "end")
        for events in await asyncio.gather(*reading):
            assert [event.data for event in events] == [f"{i}" for i in range(200)] + ["end"]


async def test_kept_pages_count_what_leads_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of many channels weigh more than the one small event on their page: together they stay in the bound."""
    monkeypatch.setattr(history, "PAGE_CACHE_BYTES", 300_000)
    options = HubOptions(window_bytes=1)
    async with Hub(options=options) as hub:
        await hub.publish("a", "x")
        for reader in range(50):
            many = [f"channel.{reader}.{number}.{'x' * 150}" for number in range(80)]
            events = aiter(hub.subscribe("a", *many, start="earliest"))
            assert (await next_event(events)).data == "x"
            await events.aclose()
        assert hub.stats().pages_read == 50
        kept = (await hub.runtime()).history._kept
        assert len(kept) > 1
        assert sum(len(name) for channels, _ in kept for name in channels.names) < history.PAGE_CACHE_BYTES


async def test_retention_of_a_hub_made_from_a_url() -> None:
    """It is the log's; a log that was made already has its own."""
    async with Hub("memory://", retention=Retention(max_events=2)) as hub:
        await hub.publish_many([("a", f"{number}") for number in range(5)])
        page, _ = await hub.history("a")
        assert [entry.data for entry in page.entries] == ["3", "4"]
    with pytest.raises(ValueError, match="has its retention"):
        Hub(open_log("memory://"), retention=Retention(max_events=2))


@pytest.mark.parametrize("start", ["now", "state", ""])
def test_a_start_that_is_none(start: Any) -> None:
    """The error says which there are."""
    with pytest.raises(ValueError, match=f"start is 'earliest' or 'latest', not '{start}'"):
        Hub("memory://").subscribe("news", start=start)


# -- idempotency keys


async def keyed(hub: Hub) -> list[str]:
    """Publish one event and one batch, each under a key."""
    batch = [("keys.b", "2"), ("keys.a", "3")]
    one = await hub.publish("keys.a", "1", idempotency_key="one")
    return [one, *await hub.publish_many(batch, idempotency_key="batch")]


async def test_a_key_stores_once(hub: Hub) -> None:
    """Publishing again under a key gives the first positions; the key is the channel's own, and no key is no key."""
    first = await keyed(hub)
    assert await keyed(hub) == first
    assert await hub.publish("keys.b", "4", idempotency_key="one") not in first
    await hub.publish("keys.a", "5")
    await hub.publish("keys.a", "5")
    page, _ = await hub.history(Pattern("keys.*"))
    assert [entry.data for entry in page.entries] == ["1", "2", "3", "4", "5", "5"]


async def test_a_file_knows_keys_after_a_restart(tmp_path: Path) -> None:
    """Another hub on the file gives what the first one gave."""
    url = f"sqlite:///{tmp_path}/log.db"
    async with Hub(url) as hub:
        first = await keyed(hub)
    async with Hub(url) as hub:
        assert await keyed(hub) == first


async def test_hubs_on_valkey_share_keys(valkey: Valkey) -> None:
    """What one machine has published under a key, another does not store again."""
    url = f"{valkey.url}?namespace=keys"
    async with Hub(url) as one, Hub(url) as two:
        first = await keyed(one)
        assert await keyed(two) == first
        page, _ = await two.history(Pattern("keys.*"))
        assert [entry.data for entry in page.entries] == ["1", "2", "3"]


async def test_threads_publish_with_a_key(hub: Hub) -> None:
    """`hub.sync` takes the same keys."""
    first = await hub.publish("a", "1", idempotency_key="one")
    assert await asyncio.to_thread(hub.sync.publish, "a", "1", idempotency_key="one") == first
    assert await asyncio.to_thread(hub.sync.publish_many, [("a", "1")], idempotency_key="one") == [first]


@pytest.mark.parametrize("key", ["", "x" * 256, 7, b"one", "\ud800"])
async def test_a_bad_key_is_refused(hub: Hub, key: str) -> None:
    """A key is a text of 1 to 255 characters; with anything else nothing is stored."""
    with pytest.raises(ValueError, match="an idempotency key is a text"):
        await hub.publish("a", "1", idempotency_key=key)
    with pytest.raises(ValueError, match="an idempotency key is a text"):
        await hub.publish_many([("a", "1")], idempotency_key=key)
    assert (await hub.history("a"))[0].entries == []
    await hub.publish("a", "1", idempotency_key="ü" * 255)
