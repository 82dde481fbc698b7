"""The log in a PostgreSQL database passes the suite; what is its own is tested beside this file."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from tests.fixtures.engines import Postgres

from newswire.log.postgres.engine import PostgresLog
from newswire.log.postgres.link import PostgresLink
from newswire.testing import LogSuite
from newswire.testing.log_base import MakeLog, opened, read_all
from newswire.wire.event import Event

_numbers = itertools.count()


class TestPostgresLog(LogSuite):
    """The suite."""

    @pytest.fixture
    def make_log(self, postgres: Postgres) -> MakeLog:
        namespace = f"suite.{os.getpid()}.{next(_numbers)}"
        return lambda **options: PostgresLog(postgres.url, namespace=namespace, **options)


@pytest.mark.anyio
async def test_what_is_sent_over_two_connections_keeps_its_order(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that overtakes the one before it, on the other connection, is refused and sent again."""
    dice = random.Random(0)
    late = refused = 0
    run = PostgresLink.run

    async def sometimes_late(
        link: PostgresLink, sql: str, *arguments: Any, on_sent: Callable[[], object] | None = None
    ) -> Any:
        nonlocal late, refused
        if on_sent is None:
            return await run(link, sql, *arguments)
        if dice.random() < 0.2:
            late += 1
            on_sent()
            await asyncio.sleep(0.02)
        rows = await run(link, sql, *arguments, on_sent=on_sent)
        refused += rows[0][0] == 2
        return rows

    monkeypatch.setattr(PostgresLink, "run", sometimes_late)
    async with opened(PostgresLog(postgres.url, namespace=secrets.token_hex(8))) as log:
        left = iter(range(4000))
        told: dict[int, int] = {}

        async def publish() -> None:
            for number in left:
                told[number] = (await log.append_one("a", Event(str(number)))).offset

        await asyncio.gather(*(publish() for _ in range(64)))
        assert [entry.data for entry in await read_all(log, "a")] == [str(number) for number in range(4000)]
        assert told == {number: number + 1 for number in range(4000)}
    assert late > 0
    assert refused > 0
