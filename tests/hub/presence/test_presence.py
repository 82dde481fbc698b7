"""Presence on every log that there is; a new one joins by a class of a few lines."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.engines import Nats, Postgres, Valkey
from tests.fixtures.origin import edges_of, many_origins
from tests.hub.presence.suite import PresenceSuite

from newswire.log.memory import MemoryLog
from newswire.log.nats.engine import NatsLog
from newswire.log.postgres.engine import PostgresLog
from newswire.log.redis.engine import RedisLog
from newswire.log.sqlite import SqliteLog
from newswire.testing.log_base import MakeLog


class TestPresenceInMemory(PresenceSuite):
    """The suite on the memory log, which two hubs share."""

    durable = False

    @pytest.fixture
    def make_log(self) -> MakeLog:
        return MemoryLog


class TestPresenceInSqlite(PresenceSuite):
    """The suite on the SQLite log, with two hubs on one file."""

    @pytest.fixture
    def make_log(self, tmp_path: Path) -> MakeLog:
        return lambda **options: SqliteLog(tmp_path / "log.db", **options)


class TestPresenceOnValkey(PresenceSuite):
    """The suite on a Valkey server, with two hubs on it."""

    @pytest.fixture
    def make_log(self, valkey: Valkey) -> MakeLog:
        namespace = f"presence.{secrets.token_hex(8)}"
        return lambda **options: RedisLog(valkey.url, namespace=namespace, **options)


class TestPresenceOnPostgres(PresenceSuite):
    """The suite in a PostgreSQL database, with two hubs on it."""

    @pytest.fixture
    def make_log(self, postgres: Postgres) -> MakeLog:
        namespace = f"presence.{secrets.token_hex(8)}"
        return lambda **options: PostgresLog(postgres.url, namespace=namespace, **options)


class TestPresenceOnNats(PresenceSuite):
    """The suite on a NATS server with JetStream, with two hubs on it."""

    @pytest.fixture
    def make_log(self, nats: Nats) -> MakeLog:
        namespace = f"presence-{secrets.token_hex(8)}"
        return lambda **options: NatsLog(nats.url, namespace=namespace, **options)


class TestPresenceOnAnEdge(PresenceSuite):
    """The suite on two edges of one origin, which has a file."""

    @pytest.fixture
    def make_log(self, tmp_path: Path) -> Iterator[MakeLog]:
        with many_origins() as origins:
            yield edges_of(origins, tmp_path / "origin.db")
