"""An edge and its origin in trouble: lost answers, an origin that is away, and what needs the edge key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from tests.fixtures.origin import KEY, Many
from tests.fixtures.tcp_proxy import TcpProxy

from newswire.edge import EdgeLog
from newswire.errors import LogError, LogUnavailable
from newswire.hub import publisher
from newswire.hub.hub import Hub
from newswire.log import Channels, Log, MemoryLog, open_log
from newswire.log.channels import Pattern
from newswire.log.engine import Condition
from newswire.testing import Answer, BadServer
from newswire.testing.log_base import closing, opened, publish, read_all, take
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio


@pytest.fixture
def origin(origins: Many) -> Iterator[str]:
    """The URL of an origin in memory, with its edge key."""
    yield origins.add(MemoryLog())
    origins.close()


@pytest.fixture
async def log(origin: str) -> AsyncIterator[Log]:
    """An edge of it."""
    async with opened(open_log(origin)) as log:
        yield log


def through(proxy: TcpProxy, url: str) -> str:
    """The same origin behind a proxy."""
    scheme, _, rest = url.rpartition("@")
    return f"{scheme}@127.0.0.1:{proxy.port}/{rest.partition('/')[2]}"


async def test_a_lost_answer_is_got_again_and_nothing_is_doubled(origins: Many, origin: str, log: Log) -> None:
    """The origin stored the batch; the edge sends it again under the same token, also one whose publisher has none."""
    with TcpProxy(origins.running.port) as proxy:
        async with opened(EdgeLog(through(proxy, origin), timeout=2)) as behind:
            assert await publish(behind, "a", "1") == [1]
            proxy.cut_answers = 2
            assert await publish(behind, "a", "2") == [2]
            assert proxy.cut_answers == 0
            proxy.cut_answers = 1
            assert await behind.append([("a", Event("3"))], token="mine") == await log.append(
                [("b", Event("x"))], token="mine"
            )
    assert [entry.data for entry in await read_all(log, "a", "b")] == ["1", "2", "3"]


@pytest.mark.slow
async def test_an_origin_that_is_away_fails_publishing_at_once_and_readers_go_on_later(
    origins: Many, origin: str
) -> None:
    """What came meanwhile comes when it is back, each event once."""
    with TcpProxy(origins.running.port) as proxy:
        async with Hub(EdgeLog(through(proxy, origin), timeout=0.5)) as hub, Hub(EdgeLog(origin)) as other:
            await hub.publish("a", "0")
            reader = aiter(hub.subscribe("a", start="earliest"))
            assert (await anext(reader)).data == "0"
            proxy.refusing = True
            proxy.cut()
            await other.publish("a", "1")
            failing = asyncio.ensure_future(hub.publish("a", "lost"))
            with pytest.raises(LogError, match=r"the origin http://127\.0\.0\.1:\d+/\d+ "):
                await asyncio.wait_for(failing, 5)
            waiting = asyncio.ensure_future(anext(reader))
            assert (await asyncio.wait({waiting}, timeout=0.3))[0] == set(), "the reader stays"
            proxy.refusing = False
            async with asyncio.timeout(20):
                assert (await waiting).data == "1"
                await hub.publish("a", "2")
                assert (await anext(reader)).data == "2"


async def test_positions_of_one_edge_are_positions_of_every_other(origins: Many, origin: str) -> None:
    """And of the origin: the same epoch and the same offsets."""
    async with Hub(EdgeLog(origin)) as one, Hub(EdgeLog(origin)) as other:
        first = await one.publish("a", "1")
        await other.publish("a", "2")
        reader = aiter(other.subscribe("a", after=first))
        event = await anext(reader)
        assert event.data == "2"
        reader = aiter(one.subscribe("a", after=event.id))
        await one.publish("a", "3")
        assert (await anext(reader)).data == "3"
        assert one.epoch == other.epoch == first.epoch


async def test_a_condition_is_judged_at_the_origin(origin: str, log: Log) -> None:
    """Of two edges that decide about the same event, one is right."""
    async with opened(EdgeLog(origin)) as other:
        await publish(log, "state", "0")
        answers = await asyncio.gather(
            *(each.append_if([("state", Event("next"))], Condition("state", 1)) for each in (log, other))
        )
        assert sorted(map(bool, answers)) == [False, True]


async def test_without_the_edge_key_an_edge_has_what_a_client_has(origins: Many, origin: str, log: Log) -> None:
    """No internal channels, no removing; all others can be read, followed and published to."""
    await publish(log, "$internal", "hidden")
    url = origin.replace(f":{KEY.replace(' ', '%20')}@", "")
    async with opened(open_log(url.replace("://", "://:wrong@"))) as edge:
        with pytest.raises(LogUnavailable, match="not the edge key"):
            await edge.span()
    async with opened(open_log(url)) as edge:
        follower = edge.follow(0)
        assert await publish(edge, "a", "1") == [2]
        async with closing(follower):
            assert [entry.channel for entry in await take(follower, 1)] == ["a"]
        assert await edge.newest(["a"]) == await log.newest(["a"])
        page = await edge.read(Channels([Pattern(">")]), 0, 10)
        assert [entry.channel for entry in page.entries] == ["a"]
        for refused in (
            edge.read(Channels(["$internal"]), 0, 10),
            edge.read(Channels([Pattern("$internal.>")]), 0, 10),
            edge.newest(["$internal"]),
            edge.append([("$internal", Event("x"))]),
            edge.append_if([("a", Event("x"))], Condition("$internal", 0)),
            edge.drop({"a": 5}),
            edge.trim(),
            edge.scan(0, 10),
            edge.losses(),
        ):
            with pytest.raises(LogError, match="edge key"):
                await refused
        with pytest.raises(LogError, match="is reserved: browsers"):
            await edge.append([("a", Event("x", "newswire.end"))])
        assert (await edge.span()).latest == 2


async def test_without_the_edge_key_no_key_of_another_channel_is_used_up(origins: Many, origin: str) -> None:
    """Its publisher would get the answer that it is stored. Keys of the own channels are known at the origin too."""
    url = origin.replace(f":{KEY.replace(' ', '%20')}@", "")
    taken = publisher._token("order-42", [("orders", Event("paid"))])
    async with Hub(origin) as hub, opened(open_log(url)) as edge, Hub(url) as keyless:
        for token in (taken, "order-42"):
            with pytest.raises(LogError, match="one of another channel"):
                await edge.append([("mine", Event("x"))], token=token)
        first = await hub.publish("orders", "paid", idempotency_key="order-42")
        assert first.stored
        again = await keyless.publish("orders", "paid", idempotency_key="order-42")
        assert (again, again.stored) == (first, False)


async def test_a_batch_without_events_is_refused(origin: str, log: Log) -> None:
    """Whoever sends it: no engine has to know what it means."""
    batch = {"events": [], "condition": None, "token": "0" * 32}
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as client:
        url = f"http://{origin.partition('@')[2]}/log/append"
        answer = await client.post(url, json={"batches": [batch], "epoch": ""})
    assert "at least one event" in answer.json()["outcomes"][0]["detail"]
    assert (await log.span()).latest == 0


async def test_without_the_edge_key_a_batch_has_the_size_of_any_clients(origins: Many) -> None:
    """`--max-batch` holds for it, and not for an edge with the key, which has the whole log."""
    events = [("a", Event(str(number))) for number in range(3)]
    url = origins.add(MemoryLog(), max_batch=2)
    without = url.replace(f":{KEY.replace(' ', '%20')}@", "")
    async with opened(open_log(url)) as edge, opened(open_log(without)) as keyless:
        with pytest.raises(LogError, match="events in a batch is 3 and the limit is 2"):
            await keyless.append(events)
        assert [at.offset for at in await keyless.append(events[:2])] == [1, 2]
        assert [at.offset for at in await edge.append(events)] == [3, 4, 5]


async def test_the_newest_of_many_come_in_parts(origin: str, log: Log) -> None:
    """An answer has as many as are not too large together; the edge asks for the others."""
    names = [f"large.{number}" for number in range(12)]
    for name in names:
        await publish(log, name, "x" * 1_000_000)
    asked = [*names, "none", *names[::-1]]
    entries = await log.newest(asked)
    assert [entry and entry.channel for entry in entries] == [*names, None, *names[::-1]]
    many = [f"small.{number % 3}" for number in range(2500)]
    await publish(log, "small.1", "1")
    assert [entry and entry.data for entry in await log.newest(many)] == [None, "1", None] * 833 + [None]
    assert await log.newest([]) == []


async def test_an_address_that_is_no_origin_is_named(origins: Many) -> None:
    """Also with a password in it, which is not shown."""
    for url in (f"http://ada:hunter2@127.0.0.1:{origins.running.port}/x/y", "http://:hunter2@127.0.0.1:1"):
        async with opened(EdgeLog(url)) as log:
            with pytest.raises(LogError) as raised:
                await log.span()
            assert "hunter2" not in f"{raised.value}{log!r}"
    with pytest.raises(ValueError, match="needs its address"):
        open_log("https://")


async def test_the_stream_to_an_edge_is_compressed(origins: Many) -> None:
    """If the origin compresses; the edge has every event all the same, as it comes."""
    came: dict[bool, int] = {}
    for compress in (True, False):
        url = origins.add(MemoryLog(), compress=compress)
        with TcpProxy(origins.running.port) as proxy:
            async with opened(EdgeLog(through(proxy, url), timeout=5)) as edge, opened(open_log(url)) as beside:
                async with closing(edge.follow(0)) as follower:
                    for number in range(10):
                        data = f"{number} {'the same again ' * 500}"
                        await publish(beside, "a", data)
                        assert [entry.data for entry in await take(follower, 1)] == [data]
                came[compress] = proxy.answered
    origins.close()
    assert came[False] > 70_000
    assert came[True] < 10_000


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b"<html>", b"[" * 100_000, b'{"lives": 5}', b"\xff"])
async def test_an_address_of_another_server(body: bytes) -> None:
    """What answers there in another way is named, with what to check: it is no fault of the log's."""
    with BadServer(lambda seen: Answer(body)) as server:
        log = EdgeLog(server.url, timeout=2)
        try:
            for call in (log.span, log.info, log.losses, log.trim):
                with pytest.raises(LogUnavailable, match="check the address of the log"):
                    await call()
            with pytest.raises(LogUnavailable, match="check the address of the log"):
                await log.read(Channels(["a"]), 0, 1)
        finally:
            await log.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was stored, and the message names the proxy as what refuses; its password is not shown."""
    with BadServer([Answer(b"who?", 407)]) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://ann:pa55word@127.0.0.1:{proxy.port}")
        async with opened(open_log(f"{scheme}://key@a.example/")) as log:
            with pytest.raises(LogUnavailable, match=r"a proxy .*407") as caught:
                await log.append([("a", Event("x"))])
    assert "pa55word" not in str(caught.value)
    assert len(proxy.requests) == 1
