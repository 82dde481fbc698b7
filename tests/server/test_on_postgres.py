"""Two servers on one PostgreSQL database: readers move from one to the other, and each of the three may die."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.engines import Postgres
from tests.fixtures.serve import Reader, Serve

pytestmark = pytest.mark.slow

FLAGS = ("--retention", "none", "--heartbeat", "1")


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """A server of this module's own, that wants a password."""
    with Postgres() as server:
        server.sql("CREATE ROLE hub LOGIN PASSWORD 's3cret'; GRANT CREATE ON DATABASE postgres TO hub")
        (server.folder / "data" / "pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        server.sql("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def servers(database: Postgres, tmp_path: Path) -> Iterator[list[Serve]]:
    """Two of newswire's servers on it."""
    url = f"postgresql://hub:s3cret@127.0.0.1:{database.port}/postgres?namespace={tmp_path.name}"
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with Serve(folders[0], "--log", url, *FLAGS) as one, Serve(folders[1], "--log", url, *FLAGS) as two:
        yield [one, two]
    assert "s3cret" not in one.stderr() + two.stderr()


def test_readers_of_each_get_what_is_published_at_either(
    servers: list[Serve], database: Postgres, tmp_path: Path
) -> None:
    """In one order, and a cursor of one server is good at the other, also after a kill -9; and from SQL too."""
    one, two = servers
    with Reader(f"{one.url}/channels/news") as at_one, Reader(f"{two.url}/channels/news") as at_two:
        at_one.opened()
        at_two.opened()
        for number in range(20):
            servers[number % 2].publish("news", str(number))
        expected = [str(number) for number in range(20)]
        first, second = at_one.read(20), at_two.read(20)
        assert [event.data for event in first] == expected
        assert first == second
        one.stop(signal.SIGKILL)
        two.publish("news", "20")
        with Reader(f"{two.url}/channels/news", {"Last-Event-ID": first[14].id or ""}) as moved:
            assert [event.data for event in moved.read(6)] == ["15", "16", "17", "18", "19", "20"]
        one.start()
        one.publish("news", "21")
        database.sql(f"SELECT \"newswire_{tmp_path.name}\".newswire_publish('news', '22')")
        assert [event.data for event in at_two.read(3)] == ["20", "21", "22"]
    assert one.stored("news") == two.stored("news") == [str(number) for number in range(23)]


def test_streams_stay_when_the_database_goes(servers: list[Serve], database: Postgres) -> None:
    """Streams stay open with heartbeats; a publish fails with 503; after its return all goes on, without a gap."""
    one, two = servers
    with Reader(f"{one.url}/channels/news") as at_one, Reader(f"{two.url}/channels/news") as at_two:
        at_one.opened()
        at_two.opened()
        one.publish("news", "before")
        database.kill()
        assert _status(two, "away") == 503
        database.start()
        while _status(two, "after") != 200:
            time.sleep(0.02)
        for reader in (at_one, at_two):
            data = [event.data for event in reader.read(2)]
            assert data[0] == "before"
            assert data[1] in ("away", "after")  # a publish without an answer may be there
        assert one.stored("news") == two.stored("news")


def _status(server: Serve, data: str) -> int:
    return httpx2.post(f"{server.url}/channels/news", content=data, timeout=30).status_code
