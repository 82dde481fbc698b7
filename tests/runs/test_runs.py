"""Runs on every log that there is; a new one joins by a class of a few lines."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.fixtures.engines import Nats, Postgres, Valkey
from tests.fixtures.origin import edges_of, many_origins
from tests.runs.suite.suite import RunSuite

from newswire.log.engine import Batch, OnDone
from newswire.log.log import Log
from newswire.log.memory import MemoryLog
from newswire.log.memory.engine import MemoryEngine
from newswire.log.nats.engine import NatsLog
from newswire.log.postgres.engine import PostgresLog
from newswire.log.redis.engine import RedisLog
from newswire.log.sqlite import SqliteLog
from newswire.testing.log_base import MakeLog


class TestRunsInMemory(RunSuite):
    """The suite on the memory log."""

    durable = False

    @pytest.fixture
    def make_log(self) -> MakeLog:
        return MemoryLog


class TestRunsInSqlite(RunSuite):
    """The suite on the SQLite log, with two hubs on one file."""

    @pytest.fixture
    def make_log(self, tmp_path: Path) -> MakeLog:
        return lambda **options: SqliteLog(tmp_path / "log.db", **options)


class AwaitedEngine(MemoryEngine):
    """An engine that calls back later, as one on a server does, and whose answers get lost."""

    immediate = False
    answers_get_lost = True

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        asyncio.get_running_loop().call_soon(super().submit, batches, on_done)


class TestRunsInALogOnAServer(RunSuite):
    """The suite on a log of somebody else's."""

    durable = False

    @pytest.fixture
    def make_log(self) -> MakeLog:
        return lambda retention=None, clock=time.time: Log(AwaitedEngine(retention, 2**26, clock))


class TestRunsOnValkey(RunSuite):
    """The suite on a Valkey server, with two hubs on it."""

    @pytest.fixture
    def make_log(self, valkey: Valkey) -> MakeLog:
        namespace = f"runs.{secrets.token_hex(8)}"
        return lambda **options: RedisLog(valkey.url, namespace=namespace, **options)


class TestRunsOnPostgres(RunSuite):
    """The suite in a PostgreSQL database, with two hubs on it."""

    @pytest.fixture
    def make_log(self, postgres: Postgres) -> MakeLog:
        namespace = f"runs.{secrets.token_hex(8)}"
        return lambda **options: PostgresLog(postgres.url, namespace=namespace, **options)


class TestRunsOnNats(RunSuite):
    """The suite on a NATS server with JetStream, with two hubs on it."""

    @pytest.fixture
    def make_log(self, nats: Nats) -> MakeLog:
        namespace = f"runs-{secrets.token_hex(8)}"
        return lambda **options: NatsLog(nats.url, namespace=namespace, **options)


@pytest.mark.slow
class TestRunsOnAnEdge(RunSuite):
    """The suite on two edges of one origin, which has a file."""

    @pytest.fixture
    def make_log(self, tmp_path: Path) -> Iterator[MakeLog]:
        with many_origins() as origins:
            yield edges_of(origins, tmp_path / "origin.db")
