"""How long a log on a Valkey server knows tokens and the calls of writers."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
from tests.fixtures.engines import Valkey

from newswire.log.redis import writer
from newswire.log.redis.engine import RedisEngine, RedisLog
from newswire.testing.log_base import opened, publish, read_all
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio

BATCH = [("a", Event("once"))]


@pytest.fixture
async def log(valkey: Valkey) -> AsyncIterator[RedisLog]:
    """A log in a namespace of its own."""
    async with opened(RedisLog(valkey.url, namespace=f"known.{secrets.token_hex(4)}")) as log:
        yield log


def engine(log: RedisLog) -> RedisEngine:
    """What is under a log."""
    assert isinstance(log.engine, RedisEngine)
    return log.engine


def key(log: RedisLog, name: str) -> str:
    """One of a log's keys."""
    return engine(log)._prefix + name


def count(valkey: Valkey, log: RedisLog, pattern: str) -> int:
    """How many keys there are."""
    found = valkey.ask("KEYS", key(log, pattern))
    return int(found[1 : found.index(b"\r")])


async def test_an_old_token_is_known_no_more(log: RedisLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time a batch under it is stored, also where nothing has swept it away."""
    await log.append(BATCH, token="daily")
    assert not (await log.append(BATCH, token="daily"))[0].stored
    monkeypatch.setattr(writer, "KNOWN_MS", -1)
    assert (await log.append(BATCH, token="daily"))[0].stored
    assert len(await read_all(log, "a")) == 2


async def test_old_tokens_and_calls_are_swept(log: RedisLog, valkey: Valkey) -> None:
    """In the end nothing is left of them; younger ones stay."""
    for number in range(5):
        await log.append(BATCH, token=str(number))
    keeper = engine(log)._retention
    await keeper.sweep()
    assert (count(valkey, log, "t:*"), count(valkey, log, "w:*")) == (5, 1)
    assert not (await log.append(BATCH, token="0"))[0].stored
    await keeper.sweep(-1)  # the writer has made a call since it was seen first …
    assert count(valkey, log, "t:*") == 0
    await keeper.sweep(-1)  # … and none since
    assert count(valkey, log, "w:*") == 0
    assert (count(valkey, log, "tokens"), count(valkey, log, "writers")) == (0, 0)
    await publish(log, "a", "goes on")
    assert (await log.append(BATCH, token="0"))[0].stored


async def test_tokens_come_and_go_without_a_keeper(
    log: RedisLog, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch with a token makes up for old ones, and each new writer for those of processes that have ended."""
    monkeypatch.setattr(writer, "KNOWN_MS", -1)
    namespace = engine(log)._prefix[1:-2]
    for number in range(12):
        async with opened(RedisLog(valkey.url, namespace=namespace)) as other:
            await other.append(BATCH, token=str(number))
    assert count(valkey, log, "t:*") < 3
    assert count(valkey, log, "w:*") < 3


async def test_tokens_of_an_older_version(log: RedisLog, valkey: Valkey) -> None:
    """Those that the server is to forget itself are known until then."""
    await publish(log, "a", "1", "2")
    valkey.ask("SET", key(log, "t:old"), "2 1", "PX", "600000")
    [position] = await log.append(BATCH, token="old")
    assert (position.offset, position.stored) == (2, False)
    valkey.ask("DEL", key(log, "t:old"))
    assert (await log.append(BATCH, token="old"))[0].stored
