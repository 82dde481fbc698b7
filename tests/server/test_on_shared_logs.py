"""Two servers on one shared log: readers move from one to the other.

What happens when the log is in trouble is tested in `test_logs_in_trouble`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.engines import Nats, Postgres, Valkey
from tests.fixtures.serve import Reader, Serve

pytestmark = pytest.mark.slow

FLAGS = ("--retention", "none", "--heartbeat", "1")
Engine = Valkey | Nats | Postgres


@pytest.fixture(scope="module", params=["valkey", "nats", "postgres"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A server of this module's own, that wants a password."""
    if request.param == "valkey":
        with Valkey("--requirepass", "s3cret") as valkey:
            yield valkey
    elif request.param == "nats":
        with Nats("--user", "hub", "--pass", "s3cret") as nats:
            yield nats
    else:
        with Postgres() as postgres:
            postgres.sql("CREATE ROLE hub LOGIN PASSWORD 's3cret'; GRANT CREATE ON DATABASE postgres TO hub")
            (postgres.folder / "data" / "pg_hba.conf").write_text(
                "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
            )
            postgres.sql("SELECT pg_reload_conf()")
            yield postgres


@pytest.fixture
def url(engine: Engine, tmp_path: Path) -> str:
    """A log of the test's own on it."""
    if isinstance(engine, Valkey):
        return f"redis://:s3cret@127.0.0.1:{engine.port}/0?namespace={tmp_path.name}"
    if isinstance(engine, Nats):
        return f"nats://hub:s3cret@127.0.0.1:{engine.port}?namespace={tmp_path.name}"
    return f"postgresql://hub:s3cret@127.0.0.1:{engine.port}/postgres?namespace={tmp_path.name}"


@pytest.fixture
def servers(url: str, tmp_path: Path) -> Iterator[list[Serve]]:
    """Two of newswire's servers on it."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with Serve(folders[0], "--log", url, *FLAGS) as one, Serve(folders[1], "--log", url, *FLAGS) as two:
        yield [one, two]
    assert "s3cret" not in one.stderr() + two.stderr()


def test_readers_of_each_get_what_is_published_at_either(servers: list[Serve]) -> None:
    """In one order, and a cursor of one server is good at the other, also after a kill -9."""
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
        assert [event.data for event in at_two.read(2)] == ["20", "21"]
    assert one.stored("news") == two.stored("news") == [str(number) for number in range(22)]
