"""The log on a Valkey server in trouble: readers lose nothing and get nothing twice, or see a gap."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.engines import Valkey
from tests.fixtures.ports import free_port
from tests.fixtures.proxies import make_certificate
from tests.fixtures.tcp_proxy import TcpProxy
from tests.log.redis_reader import PATIENCE, Reader
from tests.log.two_logs import Publisher, publishing, two_logs, until_answered, until_stored

from newswire.errors import LogError, LogUnavailable
from newswire.log.channels import Channels
from newswire.log.engine import Condition
from newswire.log.open import open_log
from newswire.log.redis.engine import RedisLog
from newswire.log.redis.link import RedisServer as LinkServer
from newswire.log.redis.pipeline import Command, Pipeline
from newswire.log.redis.scripts import APPEND
from newswire.log.retention import Retention
from newswire.testing.log_base import opened, publish, read_all
from newswire.wire.event import Event

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def server() -> Iterator[Valkey]:
    """A server of the test's own, that forgets nothing."""
    with Valkey(*DURABLE) as server:
        yield server


def two_hubs(url: str) -> AbstractAsyncContextManager[tuple[list[Publisher], list[Reader]]]:
    """Two logs on a server."""
    return two_logs(RedisLog(url), RedisLog(url))


async def test_a_frozen_server_that_nobody_waits_for(server: Valkey) -> None:
    """A batch whose answer is late is sent again; what the server gets twice it stores once."""
    async with opened(RedisLog(server.url, timeout=0.1)) as log, Reader(log) as reader:
        async with publishing(log, "a") as publisher:
            await publisher.more()
            for _ in range(3):
                server.pause()
                await asyncio.sleep(0.7)
                server.resume()
                await publisher.more()
        await reader.saw(publisher.acknowledged[-1])
        assert reader.seen[: len(publisher.acknowledged)] == publisher.acknowledged
        assert publisher.failures > 0


async def test_nothing_is_sent_before_a_new_connection_has_looked(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have been put back to an older state: that has to be known before anything is stored in it."""
    looking = False
    early: list[Command] = []
    enter, send = LinkServer.enter, Pipeline.send

    async def slowly(server: LinkServer, call: Callable[..., Awaitable[Any]], run: bytes) -> None:
        nonlocal looking
        looking = True
        await asyncio.sleep(0.05)
        looking = False
        await enter(server, call, run)

    def watched(pipeline: Pipeline, commands: Sequence[Command], seconds: float) -> asyncio.Future[list[Any]]:
        if looking:
            early.extend(commands)
        return send(pipeline, commands, seconds)

    with TcpProxy(valkey.port) as proxy:
        async with opened(RedisLog(f"redis://127.0.0.1:{proxy.port}/0", namespace=secrets.token_hex(4))) as log:
            await publish(log, "a", "1")
            monkeypatch.setattr(LinkServer, "enter", slowly)
            monkeypatch.setattr(Pipeline, "send", watched)
            for round in range(3):
                proxy.cut()
                await asyncio.sleep(0.02)
                first = asyncio.create_task(until_stored(log, f"{round} first"))
                while not looking:
                    await asyncio.sleep(0.001)
                await asyncio.gather(first, *(until_stored(log, f"{round} {number}") for number in range(20)))
    assert [command for command in early if command[1] == APPEND.sha] == []


@pytest.mark.parametrize("idle", [False, True])
async def test_a_wiped_server(valkey: Valkey, idle: bool) -> None:
    """After FLUSHALL each reader gets a gap and then what is new, also if nothing is published meanwhile."""
    with Valkey() as server:
        async with opened(RedisLog(server.url)) as log, Reader(log) as reader:
            for number in range(20):
                await publish(log, "a", str(number))
            await reader.saw("19")
            server.ask("FLUSHALL")
            if idle:
                await reader.told()
            await publish(log, "a", "new")
            await reader.saw("new")
            assert [data for data in reader.seen if data is None] == [None]
            assert reader.seen[-2:] == [None, "new"]
            assert (await log.span()).latest == 1
            assert len(reader.epochs) == 2


async def test_a_wiped_server_that_another_process_goes_on_with(valkey: Valkey) -> None:
    """What another process stored after the wipe is not taken for what this one knows."""
    with Valkey() as server:
        async with opened(RedisLog(server.url)) as log, Reader(log) as reader, opened(RedisLog(server.url)) as other:
            await publish(log, "a", *map(str, range(20)))
            await reader.saw("19")
            server.ask("FLUSHALL")
            for number in range(30):  # past the reader's offset
                await publish(other, "a", f"new {number}")
            await reader.saw("new 29")
            at = reader.seen.index(None)
            assert reader.seen[at + 1 :] == [f"new {number}" for number in range(30)]


async def test_a_server_that_is_put_back(server: Valkey) -> None:
    """An old RDB file: readers of what is gone get a gap, then all that is new; positions of what is left stay good."""
    with Valkey("--dbfilename", "log.rdb") as server:
        async with opened(RedisLog(server.url)) as log, Reader(log) as reader:
            await publish(log, "a", *map(str, range(10)))
            before = await log.span()
            assert server.ask("SAVE") == b"+OK\r\n"
            shutil.copy(server.folder / "log.rdb", server.folder / "old.rdb")
            await publish(log, "a", *map(str, range(10, 20)))
            await reader.saw("19")
            server.kill()
            shutil.copy(server.folder / "old.rdb", server.folder / "log.rdb")
            server.start()
            await reader.told()
            for number in range(15):  # past what the reader has seen
                await until_stored(log, f"new {number}")
            await reader.saw("new 14")
            at = reader.seen.index(None)
            assert reader.seen[:at] == [str(number) for number in range(20)]
            assert reader.seen[at + 1 :] == [f"new {number}" for number in range(15)]
            after = await log.span()
            assert after.epoch != before.epoch
            assert after.lives.resume(before.epoch, 10) == (10, False)
            assert after.lives.resume(before.epoch, 20) == (10, True)
            assert [entry.data for entry in await read_all(log, "a")][:10] == [str(number) for number in range(10)]
            # Once more: what is put back knows nothing of the life that went on meanwhile, and this process does.
            server.kill()
            shutil.copy(server.folder / "old.rdb", server.folder / "log.rdb")
            server.start()
            await until_stored(log, "newest")
            await reader.saw("newest")
            again = await log.span()
            assert again.lives.resume(after.epoch, 10) == (10, False)
            assert again.lives.resume(after.epoch, 25) == again.lives.resume(before.epoch, 20) == (10, True)


async def test_a_condition_about_what_was_lost_does_not_hold() -> None:
    """A batch whose condition names an event that a server lost is refused, though another has its offset now."""
    with Valkey("--dbfilename", "log.rdb") as server:
        async with opened(RedisLog(server.url)) as log:
            await publish(log, "a", "1")
            server.ask("SAVE")
            [newest] = await publish(log, "a", "2")
            server.kill()
            server.start()
            async with opened(RedisLog(server.url)) as other:
                assert await publish(other, "a", "another 2") == [newest]
                while True:
                    try:
                        assert await log.append_if([("a", Event("3"))], Condition("a", newest)) is None
                        break
                    except LogUnavailable:
                        await asyncio.sleep(0.01)


@pytest.mark.parametrize("key", ["log", "meta", "c:a"])
async def test_a_server_that_evicts(key: str) -> None:
    """A key that the server threw away is a gap for its readers, and the log goes on."""
    with Valkey() as server:
        async with opened(RedisLog(server.url)) as log:
            await publish(log, "a", *"12345")
            await publish(log, "b", "x")
            before = await log.span()
            server.ask("DEL", "{newswire}:" + key)
            await publish(log, "a", "6")
            span = await log.span()
            page = await log.read(Channels(["a"]), 0, 10)
            assert page.entries[-1].data == "6"
            assert span.latest == 7
            if key == "meta":  # what is left is read in a new life
                assert span.lives.resume(before.epoch, before.latest) is None
            else:
                assert page.lost == (6 if key == "c:a" else 5)
            assert [entry.data for entry in (await log.read(Channels(["b"]), 0, 10)).entries] == (
                [] if key == "log" else ["x"]
            )


async def test_a_server_whose_memory_is_full() -> None:
    """It stores nothing, says so, and goes on when there is room; readers read."""
    with Valkey("--maxmemory", "20mb", "--maxmemory-policy", "noeviction") as server:
        async with opened(RedisLog(server.url)) as log:
            stored = 0
            with pytest.raises(LogUnavailable, match="maxmemory"):
                while True:
                    await publish(log, "a", f"{stored} {'x' * 500_000}")
                    stored += 1
            assert stored > 10
            assert (await log.span()).latest == stored
            assert len((await log.read(Channels(["a"]), 0, 3)).entries) == 3
            server.ask("CONFIG", "SET", "maxmemory", "0")
            await publish(log, "a", "room")
            assert (await log.read(Channels(["a"]), stored, 3)).entries[0].data == "room"


@pytest.mark.parametrize("restarted", [False, True])
async def test_retention_makes_room_where_the_memory_is_full(restarted: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The log is read, and what is too old goes, also if the server was started again: then there is room."""
    with Valkey("--maxmemory", "20mb", "--maxmemory-policy", "noeviction", *DURABLE) as server:
        clock = time.time()
        async with opened(RedisLog(server.url, retention=Retention(max_age=60), clock=lambda: clock)) as log:
            for number in range(30):
                await publish(log, f"a{number}", "x" * 200_000)
            server.ask("CONFIG", "SET", "maxmemory", "5mb")
            with pytest.raises(LogUnavailable, match="raise its maxmemory, or keep less"):
                await publish(log, "b", "no room")
            if restarted:
                server.options[1] = "5mb"
                server.kill()
                server.start()
            async with opened(RedisLog(server.url)) as other:
                assert len(await read_all(other, "a1")) == 1
                assert await other.drop({"a2": 2**40}) == 1
            clock += 100
            await until_stored(log, "room")
            assert [entry.data for entry in await read_all(log, "a")] == ["room"]
            assert (await log.read(Channels(["a1"]), 0, 10)).lost == 2
    assert "can't be removed" not in caplog.text


async def test_retention_that_stands_still_is_told_of(server: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    """Here for want of a replica; and that it goes on."""
    async with opened(RedisLog(server.url, retention=Retention(max_events=1))) as log, asyncio.timeout(PATIENCE):
        await publish(log, "a", "1", "2")
        server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
        while "can't be removed now" not in caplog.text:
            await asyncio.sleep(0.05)
        assert "Not enough good replicas" in caplog.text
        server.ask("CONFIG", "SET", "min-replicas-to-write", "0")
        while len(await read_all(log, "a")) > 1:
            await asyncio.sleep(0.05)


async def test_a_server_that_throws_keys_away_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Once for each log, and by `newswire log info`."""
    what, policy = "throws events away", "allkeys-lru"
    with Valkey("--maxmemory", "50mb", "--maxmemory-policy", policy) as server:
        async with opened(RedisLog(server.url)) as log, Reader(log):
            await publish(log, "a", "1")
            assert any(what in risk and policy in risk for risk in (await log.info()).risks)
    assert caplog.text.count("maxmemory-policy") == 1
    assert what in caplog.text


@pytest.mark.parametrize("policy", ["volatile-ttl", "volatile-lru"])
async def test_a_server_that_throws_away_what_expires(policy: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where its memory is full it keeps tokens and the calls of writers: what is published again is there once."""
    with Valkey("--maxmemory", "8mb", "--maxmemory-policy", policy) as server:
        async with opened(RedisLog(server.url)) as log:
            event = Event("once")
            [first] = await log.append([("once", event)], token="order-1")
            with pytest.raises(LogUnavailable, match="maxmemory"):
                while True:
                    await publish(log, "a", "x" * 100_000)
            server.ask("CONFIG", "SET", "maxmemory", "0")
            [again] = await log.append([("once", event)], token="order-1")
            assert (again, again.stored) == (first, False)
            assert len(await read_all(log, "once")) == 1
            keys = server.ask("KEYS", "{newswire}:*").split(b"\r\n")[2::2]
            expire = {key for key in map(bytes.decode, keys) if server.ask("TTL", key) != b":-1\r\n"}
            assert expire <= {"{newswire}:keeper", "{newswire}:now"}
            assert not any(policy in risk for risk in (await log.info()).risks)
    assert "maxmemory-policy" not in caplog.text


async def test_no_password_is_told(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in an error nor in a log line nor in what an object looks like."""
    caplog.set_level(logging.DEBUG)
    with Valkey("--requirepass", "s3cret") as server:
        texts = []
        for password in ("wr0ng", "s3cret"):
            url = f"redis://user:{password}@127.0.0.1:{server.port}/0"
            async with opened(RedisLog(url)) as log:
                texts += [repr(log), repr(log.engine)]
                with pytest.raises(LogUnavailable) as caught:
                    await log.span()
                texts.append(str(caught.value))
                assert caught.value.__cause__ is None
        url = f"redis://:s3cret@127.0.0.1:{server.port}/0"
        async with opened(RedisLog(url, timeout=0.1)) as log:
            await publish(log, "a", "1")
            server.kill()
            with pytest.raises(LogError) as broken:
                await publish(log, "a", "1")
            texts += [repr(log), str(broken.value)]
        text = "\n".join([*texts, caplog.text])
        assert "s3cret" not in text
        assert "wr0ng" not in text


async def test_a_user_with_few_rights(server: Valkey) -> None:
    """The rights that docs/engines.md lists are enough, and what goes beyond them is refused with a clear error."""
    rights = "on >pw ~{mine}:* -@all +@scripting +@read +@write +@stream +info +hello +client|setinfo +select"
    assert server.ask("ACL", "SETUSER", "hub", *rights.split()) == b"+OK\r\n"
    url = f"redis://hub:pw@127.0.0.1:{server.port}/0"
    async with opened(RedisLog(url, namespace="mine")) as log, Reader(log) as reader:
        await publish(log, "a", "1")
        await reader.saw("1")
        await log.trim()
        await log.drop({"a": 1})
    async with opened(RedisLog(url, namespace="other")) as log:
        with pytest.raises(LogUnavailable, match=r"does not let this user do it: .*the log's keys are ~\{other\}:\*"):
            await log.span()
    assert server.ask("ACL", "SETUSER", "hub", "~*", "-xadd") == b"+OK\r\n"
    async with opened(RedisLog(url, namespace="mine")) as log:
        with pytest.raises(LogUnavailable, match="does not let this user do it: ACL failure"):
            await publish(log, "a", "2")


async def test_a_member_of_a_cluster_that_does_not_have_the_log() -> None:
    """The URL names any member: the log is on the one that has its slot."""
    bus = str(free_port())  # its own would be 10,000 above the port, and perhaps too high
    cluster = ("--cluster-enabled", "yes", "--cluster-port")
    with Valkey(*cluster, bus) as one, Valkey(*cluster, str(free_port())) as two:
        slot = int(one.ask("CLUSTER", "KEYSLOT", "{newswire}:log")[1:-2])
        one.ask("CLUSTER", "ADDSLOTSRANGE", str(slot), str(slot))
        two.ask("CLUSTER", "ADDSLOTSRANGE", "0", str(slot - 1), str(slot + 1), "16383")
        two.ask("CLUSTER", "MEET", "127.0.0.1", str(one.port), bus)
        async with asyncio.timeout(PATIENCE):
            while b"cluster_state:ok" not in two.ask("CLUSTER", "INFO"):
                await asyncio.sleep(0.05)
        async with opened(RedisLog(two.url)) as log, Reader(log) as reader:
            await publish(log, "a", "1")
            await reader.saw("1")
            await log.append([("b", Event("2"))], token="t")
            await log.trim()
            assert [entry.data for entry in await read_all(log, "a", "b")] == ["1", "2"]
            assert await log.drop({"a": 1}) == 1


async def test_a_server_that_takes_no_writes_after_a_restart(server: Valkey) -> None:
    """Readers go on from their cursors, without a gap; publishing fails with the server's words, until it takes one."""
    async with opened(RedisLog(server.url)) as log, Reader(log) as reader:
        await publish(log, "a", "1", "2")
        await reader.saw("2")
        before = await log.span()
        server.stop()
        server.options += ["--min-replicas-to-write", "1"]
        server.start()
        await until_answered(log)
        async with opened(RedisLog(server.url)) as other:
            for each in (log, other):
                assert [entry.data for entry in await read_all(each, "a")] == ["1", "2"]
                assert await read_all(each, "none") == []
                assert await each.span() == before
                with pytest.raises(LogUnavailable, match="Not enough good replicas"):
                    await publish(each, "a", "3")
            server.ask("CONFIG", "SET", "min-replicas-to-write", "0")
            await until_stored(log, "3")
            await publish(other, "a", "4")
        await reader.saw("4")
        assert reader.seen == ["1", "2", "3", "4"]
        after = await log.span()
        assert after.epoch != before.epoch
        assert after.lives.resume(before.epoch, 2) == (2, False)


async def test_a_replica_is_read_and_followed(server: Valkey) -> None:
    """In the life that its primary is in; publishing there fails with what the server says."""
    with Valkey("--replicaof", "127.0.0.1", str(server.port)) as replica:
        async with opened(RedisLog(server.url)) as log, opened(RedisLog(replica.url)) as other:
            await publish(log, "a", "1")
            async with asyncio.timeout(PATIENCE):
                while b"master_link_status:up" not in replica.ask("INFO", "replication") or not await _there(other):
                    await asyncio.sleep(0.02)
            async with Reader(other) as reader:
                await publish(log, "a", "2")
                await reader.saw("2")
            assert [entry.data for entry in await read_all(other, "a")] == ["1", "2"]
            assert await read_all(other, "none") == []
            assert (await other.span()).epoch == (await log.span()).epoch
            with pytest.raises(LogUnavailable, match="read only replica"):
                await publish(other, "a", "3")


async def _there(log: RedisLog) -> bool:
    try:
        return (await log.span()).latest > 0
    except LogUnavailable:
        return False


async def test_a_replica_that_takes_over() -> None:
    """Sentinels name another master: publishing and reading go on there, in a new life of the log."""
    with (
        Valkey() as master,
        Valkey("--replicaof", "127.0.0.1", str(master.port)) as replica,
        Sentinel(master) as sentinel,
    ):
        url = f"redis://127.0.0.1:{sentinel.port}/0?sentinel=mymaster"
        async with asyncio.timeout(PATIENCE):
            while b"connected_slaves:1" not in master.ask("INFO", "replication"):
                await asyncio.sleep(0.02)
        async with two_hubs(url) as (_, readers):
            async with asyncio.timeout(PATIENCE):
                while f"{replica.port}".encode() not in sentinel.ask("SENTINEL", "replicas", "mymaster"):
                    await asyncio.sleep(0.02)
            master.kill()
            sentinel.ask("SENTINEL", "failover", "mymaster")
        assert all(len(reader.epochs) >= 2 for reader in readers)
        assert replica.ask("XLEN", "{newswire}:log") != b":0\r\n"


class Sentinel(Valkey):
    """A sentinel that watches a master, and decides alone."""

    def __init__(self, master: Valkey) -> None:
        super().__init__()
        self._master = master

    def prepare(self) -> None:
        """See `Server.prepare`."""
        (self.folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {self._master.port} 1\n"
            "sentinel down-after-milliseconds mymaster 300\nsentinel failover-timeout mymaster 2000\n"
        )

    def command(self) -> list[str]:
        """See `Server.command`."""
        return [super().command()[0], str(self.folder / "sentinel.conf"), "--sentinel"]


@asynccontextmanager
async def with_tls(server: Valkey, certificate: Path, key: Path) -> AsyncGenerator[int]:
    """A port where TLS ends, before a server that has none."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "connected" in repr(task.get_coro()):
                await asyncio.wait([task])


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
async def test_tls(scheme: str, valkey: Valkey, tmp_path: Path) -> None:
    """With a certificate that `ssl_ca_certs` trusts; without, nothing is sent, and the error says why."""
    certificate, key = make_certificate(tmp_path, "localhost")
    async with with_tls(valkey, certificate, key) as port:
        url = f"{scheme}://127.0.0.1:{port}/0?namespace=tls.{secrets.token_hex(8)}"
        async with opened(open_log(f"{url}&ssl_ca_certs={certificate}")) as log, Reader(log) as reader:
            await publish(log, "a", "1")
            await reader.saw("1")
            assert [entry.data for entry in await read_all(log, "a")] == ["1"]
        async with opened(open_log(url)) as log:
            with pytest.raises(LogUnavailable, match="certificate"):
                await log.span()
