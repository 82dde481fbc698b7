"""A Valkey log behind a sentinel, and for a user with few rights: real servers, a real failover."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from tests.fixtures.engines import PATIENCE, Valkey
from tests.log.redis_reader import Reader

from newswire.errors import LogUnavailable
from newswire.log.log import Log
from newswire.log.redis.engine import RedisLog
from newswire.log.retention import Retention
from newswire.testing.log_base import opened, publish, read_all

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

# What docs/engines.md says that a user needs.
RIGHTS = "-@all +@scripting +@read +@write +@stream +info +hello +select +client|setinfo"


class Sentinel(Valkey):
    """A sentinel that watches a master by the name `mymaster`, alone."""

    def __init__(self, master: Valkey) -> None:
        super().__init__()
        self._master = master

    def prepare(self) -> None:
        """See `Server.prepare`."""
        lines = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor mymaster 127.0.0.1 {self._master.port} 1",
            "sentinel down-after-milliseconds mymaster 500",
            "sentinel failover-timeout mymaster 3000",
        )
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        """See `Server.command`."""
        return [super().command()[0], str(self.folder / "sentinel.conf"), "--sentinel"]


@pytest.fixture
def trio() -> Iterator[tuple[Valkey, Valkey, Sentinel]]:
    """A master, its replica, and the sentinel that knows both."""
    with Valkey() as master, Valkey("--replicaof", f"127.0.0.1 {master.port}") as replica, Sentinel(master) as sentinel:
        until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
        until(lambda: b"slaves=1" in sentinel.ask("INFO", "sentinel"))
        yield master, replica, sentinel


def until(is_so: object) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def until_stored(log: Log, data: str) -> None:
    """Publish until it is stored."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await publish(log, "a", data)
                return
            except LogUnavailable:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("behind", [False, True])
async def test_a_failover(behind: bool, trio: tuple[Valkey, Valkey, Sentinel]) -> None:
    """The log goes on at the replica, as another life; readers get a gap if it had not got all, and else nothing."""
    master, replica, sentinel = trio
    async with opened(RedisLog(f"redis://127.0.0.1:{sentinel.port}/0?sentinel=mymaster")) as log, Reader(log) as reader:
        await publish(log, "a", *"12345")
        assert master.ask("WAIT", "1", "10000") == b":1\r\n"
        before = await log.span()
        if behind:
            replica.pause()
            master.ask("CLIENT", "KILL", "TYPE", "replica")
        await publish(log, "a", *"678")
        if not behind:
            assert master.ask("WAIT", "1", "10000") == b":1\r\n"
        await reader.saw("8")
        master.kill()
        if behind:
            replica.resume()
        await until_stored(log, "new")
        await reader.saw("new")
        assert reader.seen == [*"12345678", *([None] if behind else []), "new"]
        after = await log.span()
        assert after.epoch != before.epoch
        assert after.lives.resume(before.epoch, 5) == (5, False)
        assert after.lives.resume(before.epoch, 8) == ((5, True) if behind else (8, False))
        kept = [*"12345", *("" if behind else "678"), "new"]
        assert [entry.data for entry in await read_all(log, "a")] == kept


async def test_a_user_with_few_rights() -> None:
    """The rights that the documentation names are enough for all that a log does."""
    with Valkey() as server:
        server.ask("ACL", "SETUSER", "hub", "on", ">s3cret", "~{newswire}:*", *RIGHTS.split())
        url = f"redis://hub:s3cret@127.0.0.1:{server.port}/0"
        async with opened(RedisLog(url, retention=Retention(max_events=2))) as log, Reader(log) as reader:
            await publish(log, "a", *"12345")
            await reader.saw("5")
            assert await log.trim() == 3
            assert [entry.data for entry in await read_all(log, "a")] == ["4", "5"]
            assert await log.drop({"a": 5}) == 2
            assert (await log.span()).latest == 5


@pytest.mark.parametrize(
    ("rights", "password", "why"),
    [
        (RIGHTS, "wr0ng", "refuses this user or password"),
        ("-@all +info +hello +select +client|setinfo", "s3cret", "does not let this user do it"),
        (RIGHTS.replace(" +@write", ""), "s3cret", "does not let this user do it|failed"),
    ],
)
async def test_a_user_with_too_few(rights: str, password: str, why: str) -> None:
    """The error says what is missing, without the password; nothing is stored."""
    with Valkey() as server:
        server.ask("ACL", "SETUSER", "hub", "on", ">s3cret", "~{newswire}:*", *rights.split())
        async with opened(RedisLog(f"redis://hub:{password}@127.0.0.1:{server.port}/0", timeout=1)) as log:
            with pytest.raises(LogUnavailable, match=why) as raised:
                await publish(log, "a", "x")
            assert password not in str(raised.value)
        assert server.ask("DBSIZE") == b":0\r\n"
