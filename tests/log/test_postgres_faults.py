"""The log in a PostgreSQL database in trouble: readers lose nothing and get nothing twice, or see a gap."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import asyncpg  # type: ignore[import-untyped]
import pytest
from tests.fixtures.engines import Postgres
from tests.fixtures.tcp_proxy import TcpProxy
from tests.log.redis_reader import Reader
from tests.log.two_logs import Publisher, publishing, two_logs, until_answered, until_stored

from newswire.errors import LogCorrupt, LogError, LogUnavailable
from newswire.log.channels import Channels
from newswire.log.engine import Condition
from newswire.log.log import Log
from newswire.log.postgres.engine import PostgresEngine, PostgresLog
from newswire.testing.log_base import opened, publish, read_all
from newswire.wire.event import Event

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of this module's own: tests stop it, and start it again."""
    with Postgres() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """One that no other test has."""
    return secrets.token_hex(8)


def two_hubs(url: str, **options: object) -> AbstractAsyncContextManager[tuple[list[Publisher], list[Reader]]]:
    """Two logs in a database."""
    return two_logs(PostgresLog(url, **options), PostgresLog(url, **options))  # type: ignore[arg-type]


def through(proxy: TcpProxy) -> str:
    """The URL of a database behind a proxy."""
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"


async def test_an_answer_that_was_lost(postgres: Postgres, namespace: str) -> None:
    """A batch whose answer was lost is sent again, and is there once; it has no token."""
    with TcpProxy(postgres.port) as proxy:
        async with opened(PostgresLog(through(proxy), namespace=namespace)) as log:
            await publish(log, "a", "0")
            for number in range(1, 10):
                proxy.cut_answers = 1
                assert await publish(log, "a", str(number)) == [number + 1]
            condition = Condition("a", 10)
            proxy.cut_answers = 1
            [position] = await log.append_if([("a", Event("10"))], condition) or []
            assert position.offset == 11
            assert [entry.data for entry in await read_all(log, "a")] == [str(number) for number in range(11)]


async def test_a_server_that_is_stopped_and_started(server: Postgres, namespace: str) -> None:
    """As an administrator does: sessions end with a message, and all goes on after the start."""
    async with two_hubs(server.url, namespace=namespace) as (publishers, readers):
        server.stop()
        await asyncio.sleep(0.5)
        server.start()
        for publisher in publishers:
            await publisher.more(10)
    assert all(None not in reader.seen for reader in readers)


async def test_a_session_that_crashes(server: Postgres, namespace: str) -> None:
    """A server process that is killed takes all others with it; the server goes on, and so does the log."""
    async with two_hubs(server.url, namespace=namespace) as (publishers, readers):
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'newswire'")
        for publisher in publishers:
            await publisher.more(10)
        [session, *_] = [each for each in server._tree()[1:] if "postgres postgres 127" in " ".join(each.cmdline())]
        session.kill()
        for publisher in publishers:
            await publisher.more(10)
    assert all(None not in reader.seen for reader in readers)


async def test_a_frozen_server_that_no_one_waits_for(server: Postgres, namespace: str) -> None:
    """A batch whose answer is late is sent again; what the server gets twice it stores once."""
    async with opened(PostgresLog(server.url, namespace=namespace, timeout=0.3)) as log, Reader(log) as reader:
        async with publishing(log, "a") as publisher:
            await publisher.more()
            for _ in range(3):
                server.pause()
                await asyncio.sleep(1.2)
                server.resume()
                await publisher.more()
        await reader.saw(publisher.acknowledged[-1])
        assert reader.seen[: len(publisher.acknowledged)] == publisher.acknowledged
        assert publisher.failures > 0


@pytest.mark.parametrize("idle", [False, True])
async def test_a_schema_that_is_dropped(postgres: Postgres, namespace: str, idle: bool) -> None:
    """Each reader gets a gap and then what is new, also if nothing is published meanwhile."""
    async with opened(PostgresLog(postgres.url, namespace=namespace)) as log, Reader(log) as reader:
        for number in range(20):
            await publish(log, "a", str(number))
        await reader.saw("19")
        await postgres.run(f'DROP SCHEMA "newswire_{namespace}" CASCADE')
        if idle:
            await reader.told()
        await publish(log, "a", "new")
        await reader.saw("new")
        assert [data for data in reader.seen if data is None] == [None]
        assert reader.seen[-2:] == [None, "new"]
        assert (await log.span()).latest == 1
        assert len(reader.epochs) == 2


async def test_a_dropped_schema_that_another_process_goes_on_with(postgres: Postgres, namespace: str) -> None:
    """What another process stored after it is not taken for what this one knows."""

    def make() -> Log:
        return PostgresLog(postgres.url, namespace=namespace)

    async with opened(make()) as log, Reader(log) as reader, opened(make()) as other:
        await publish(log, "a", *map(str, range(20)))
        await reader.saw("19")
        await postgres.run(f'DROP SCHEMA "newswire_{namespace}" CASCADE')
        for number in range(30):  # past the reader's offset
            await publish(other, "a", f"new {number}")
        await reader.saw("new 29")
        at = reader.seen.index(None)
        assert reader.seen[at + 1 :] == [f"new {number}" for number in range(30)]


@pytest.mark.parametrize("table", ["events", "life", "channels"])
async def test_a_table_that_is_emptied(postgres: Postgres, namespace: str, table: str) -> None:
    """Readers hear of what is gone, and the log goes on in another life."""
    async with opened(PostgresLog(postgres.url, namespace=namespace)) as log, Reader(log) as reader:
        await publish(log, "a", *"12345")
        await publish(log, "b", "x")
        await reader.saw("x")
        before = await log.span()
        await postgres.run(f'TRUNCATE "newswire_{namespace}".{table}')
        await publish(log, "a", "6")
        await reader.saw("6")
        span = await log.span()
        entries = await read_all(log, "a")
        assert entries[-1].data == "6"
        if table == "channels":
            assert span.epoch == before.epoch
            assert None not in reader.seen
        else:
            assert span.epoch != before.epoch
            assert None in reader.seen or table == "life"


async def test_a_log_that_lacks_tables(postgres: Postgres, namespace: str) -> None:
    """A person has to look, and the error says what to do."""
    async with opened(PostgresLog(postgres.url, namespace=namespace)) as log:
        await publish(log, "a", "1")
        await postgres.run(f'DROP TABLE "newswire_{namespace}".events')
        with pytest.raises(LogCorrupt, match="lacks some of its tables"):
            await publish(log, "a", "2")


async def test_a_server_that_is_put_back(server: Postgres, namespace: str) -> None:
    """An old copy of its files: readers of what is gone get a gap, then all that is new; positions in what is left
    stay good."""
    data, old = server.folder / "data", server.folder / "old"

    def put_back() -> None:
        server.kill()
        shutil.rmtree(data)
        _copy(old, data)
        server.start()

    async with opened(PostgresLog(server.url, namespace=namespace)) as log, Reader(log) as reader:
        await publish(log, "a", *map(str, range(10)))
        before = await log.span()
        server.stop()
        _copy(data, old)
        server.start()
        await until_stored(log, "10")
        for number in range(11, 20):
            await until_stored(log, str(number))
        await reader.saw("19")
        middle = await log.span()
        put_back()
        await reader.told()
        for number in range(15):  # past what the reader has seen
            await until_stored(log, f"new {number}")
        await reader.saw("new 14")
        at = reader.seen.index(None)
        assert reader.seen[:at] == [str(number) for number in range(20)]
        assert reader.seen[at + 1 :] == [f"new {number}" for number in range(15)]
        after = await log.span()
        assert after.epoch not in (before.epoch, middle.epoch)
        assert after.lives.resume(before.epoch, 10) == (10, False)
        assert after.lives.resume(middle.epoch, 10) == (10, False)
        assert after.lives.resume(middle.epoch, 20) == (10, True)
        assert [entry.data for entry in await read_all(log, "a")][:10] == [str(number) for number in range(10)]


async def test_a_dump_that_is_restored(postgres: Postgres, namespace: str) -> None:
    """Also while the server goes on, and also if no hub was there to see it."""
    schema = f"newswire_{namespace}"

    def make() -> Log:
        return PostgresLog(postgres.url, namespace=namespace)

    async with opened(make()) as log:
        await publish(log, "a", *map(str, range(10)))
        dump = postgres._run("pg_dump", "--schema", f'"{schema}"', postgres.url)
        await publish(log, "a", *map(str, range(10, 20)))
        before = await log.span()

    def restore() -> None:
        path = postgres.folder / f"{schema}.sql"
        path.write_text(dump)
        path.chmod(0o644)
        postgres.sql(f'DROP SCHEMA "{schema}" CASCADE')
        postgres._run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(path), postgres.url)

    restore()
    async with opened(make()) as log, Reader(log) as reader:
        after = await log.span()
        assert after.latest == 10
        assert after.lives.resume(before.epoch, 10) == (10, False)
        assert after.lives.resume(before.epoch, 15) == (10, True)
        assert await publish(log, "a", *map(str, range(100, 115))) == list(range(11, 26))
        await reader.saw("114")
        restore()
        await reader.told()
        await publish(log, "a", "last")
        await reader.saw("last")
        again = await log.span()
        assert again.lives.resume(after.epoch, 10) == (10, False)
        assert again.lives.resume(after.epoch, 12) == (10, True)


async def test_a_condition_about_what_was_lost_does_not_hold(postgres: Postgres, namespace: str) -> None:
    """A batch whose condition names an event that is gone is refused, though another has its offset now."""

    def make() -> Log:
        return PostgresLog(postgres.url, namespace=namespace)

    async with opened(make()) as log:
        assert isinstance(log.engine, PostgresEngine)
        [newest] = await publish(log, "a", "1")
        await log.engine._leader.close()  # it would find out first
        await postgres.run(f'DROP SCHEMA "newswire_{namespace}" CASCADE')
        async with opened(make()) as other:
            assert await publish(other, "a", "another 1") == [newest]
            assert await log.append_if([("a", Event("2"))], Condition("a", newest)) is None


async def test_no_password_is_told(server: Postgres, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in an error nor in a log line nor in what an object looks like."""
    caplog.set_level(logging.DEBUG)
    server.sql("CREATE ROLE hub LOGIN PASSWORD 's3cret'; GRANT CREATE ON DATABASE postgres TO hub")
    (server.folder / "data" / "pg_hba.conf").write_text(
        "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    )
    server.sql("SELECT pg_reload_conf()")
    texts = []
    async with opened(PostgresLog(f"postgresql://hub:wr0ng@127.0.0.1:{server.port}/postgres")) as log:
        texts += [repr(log), repr(log.engine)]
        with pytest.raises(LogUnavailable, match="refuses this user") as caught:
            await log.span()
        texts.append(str(caught.value))
        assert caught.value.__cause__ is None
    url = f"postgresql://hub:s3cret@127.0.0.1:{server.port}/postgres"
    async with opened(PostgresLog(url, namespace=namespace, timeout=0.5)) as log:
        await until_stored(log, "1")
        server.kill()
        with pytest.raises(LogError) as broken:
            await publish(log, "a", "1")
        texts += [repr(log), str(broken.value), repr(vars(log.engine))]
    server.start()
    for bad in ("postgresql://u:s3cret@x@y:z/db", "postgresql://u:s3cret/x@host/db", "postgresql://u:p@h:s3cret/db"):
        with pytest.raises(ValueError, match="can't be used") as refused:
            PostgresLog(bad)
        texts.append(str(refused.value))
    text = "\n".join([*texts, caplog.text])
    assert "s3cret" not in text
    assert "wr0ng" not in text


async def test_a_server_that_takes_no_writes(postgres: Postgres, namespace: str) -> None:
    """A standby, or one that its operator made read-only: the error says so, and what to look at."""
    await postgres.run(
        f"CREATE ROLE ro_{namespace} LOGIN SUPERUSER; ALTER ROLE ro_{namespace} SET default_transaction_read_only = on"
    )
    url = postgres.url.replace("postgres@", f"ro_{namespace}@")
    async with opened(PostgresLog(postgres.url, namespace=namespace)) as log:
        await publish(log, "a", "1")
        async with opened(PostgresLog(url, namespace=namespace)) as other:
            assert [entry.data for entry in await read_all(other, "a")] == ["1"]
            with pytest.raises(LogUnavailable, match=r"read-only now.*default_transaction_read_only"):
                await publish(other, "a", "2")


async def test_a_server_that_takes_no_writes_after_a_restart(namespace: str) -> None:
    """Readers go on from their cursors, without a gap; publishing fails with what to do, and goes on when it can."""
    with Postgres() as server:
        settings = server.folder / "data" / "postgresql.auto.conf"
        async with opened(PostgresLog(server.url, namespace=namespace)) as log, Reader(log) as reader:
            await publish(log, "a", "1", "2")
            await reader.saw("2")
            before = await log.span()
            server.stop()
            settings.write_text("default_transaction_read_only = on\n")
            server.start()
            await until_answered(log)
            async with opened(PostgresLog(server.url, namespace=namespace)) as other:
                for each in (log, other):
                    assert [entry.data for entry in await read_all(each, "a")] == ["1", "2"]
                    assert await each.span() == before
                    with pytest.raises(LogUnavailable, match=r"read-only now.*default_transaction_read_only"):
                        await publish(each, "a", "3")
                    with pytest.raises(LogUnavailable, match="read-only now"):
                        await each.drop({"a": 1})
                settings.write_text("")
                await server.run("SELECT pg_reload_conf()")
                await until_stored(log, "3")
                await publish(other, "a", "4")
            await reader.saw("4")
            assert reader.seen == ["1", "2", "3", "4"]
            after = await log.span()
            assert after.epoch != before.epoch
            assert after.lives.resume(before.epoch, 2) == (2, False)


async def test_a_standby(namespace: str) -> None:
    """It is read and followed in the life that the primary is in."""
    with Postgres() as server, Postgres() as standby:
        async with opened(PostgresLog(server.url, namespace=namespace)) as log:
            await publish(log, "a", "1")
            server.stop()
            standby.stop()
            shutil.rmtree(standby.folder / "data")
            _copy(server.folder / "data", standby.folder / "data")
            (standby.folder / "data" / "standby.signal").touch()
            with (standby.folder / "data" / "postgresql.auto.conf").open("a") as settings:
                settings.write(f"primary_conninfo = 'host=127.0.0.1 port={server.port} user=postgres'\n")
            server.start()
            await until_stored(log, "2")
            standby.start()
            async with opened(PostgresLog(standby.url, namespace=namespace)) as other, asyncio.timeout(30):
                while (await other.span()).latest < 2:
                    await asyncio.sleep(0.02)
                async with Reader(other) as reader:
                    await publish(log, "a", "3")
                    await reader.saw("3")
                with pytest.raises(LogUnavailable, match=r"read-only now.*no standby"):
                    await publish(other, "a", "4")
                assert [entry.data for entry in await read_all(other, "a")] == ["1", "2", "3"]


async def test_a_user_who_may_only_read(server: Postgres, namespace: str) -> None:
    """Reads also if no one who may write has come since the server was started; the error says what is refused."""
    async with opened(PostgresLog(server.url, namespace=namespace)) as log:
        await publish(log, "a", "1")
    role, schema = f"reader_{namespace}", f"newswire_{namespace}"
    await server.run(
        f"CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA {schema} TO {role}; "
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
    )
    server.stop()
    server.start()
    url = server.url.replace("postgres@", f"{role}:pw@")
    async with opened(PostgresLog(url, namespace=namespace)) as other:
        assert [entry.data for entry in await read_all(other, "a")] == ["1"]
        with pytest.raises(LogUnavailable, match=r"does not let this user do it: permission denied for table"):
            await publish(other, "a", "2")


async def test_a_table_that_a_crash_empties(postgres: Postgres, namespace: str) -> None:
    """`newswire log info` says so."""
    async with opened(PostgresLog(postgres.url, namespace=namespace)) as log:
        await publish(log, "a", "1")
        assert not any("UNLOGGED" in risk for risk in (await log.info()).risks)
        await postgres.run(f"ALTER TABLE newswire_{namespace}.events SET UNLOGGED")
        assert any("UNLOGGED (events)" in risk for risk in (await log.info()).risks)


async def test_what_asyncpg_says_of_itself_is_not_told(postgres: Postgres, namespace: str) -> None:
    """Where a connection is closed at a moment that it does not expect: no one can do anything with its states."""

    async def fail() -> None:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    async with opened(PostgresLog(postgres.url, namespace=namespace)) as log:
        await log.span()
        assert isinstance(log.engine, PostgresEngine)
        link = log.engine._link
        with pytest.raises(LogUnavailable, match="broke: it was closed while it was in use"):
            await link._guarded(link._connection, fail())
        assert (await log.span()).latest == 0


async def test_a_log_that_is_not_to_be_made(postgres: Postgres, namespace: str) -> None:
    """With `create=0` a missing log is an error that says what to run; one that is there is used."""
    async with opened(PostgresLog(postgres.url, namespace=namespace, create=False)) as log:
        with pytest.raises(LogUnavailable, match="newswire log init"):
            await publish(log, "a", "1")
    async with opened(PostgresLog(postgres.url, namespace=namespace)) as log:
        await publish(log, "a", "1")
    async with opened(PostgresLog(postgres.url, namespace=namespace, create=False)) as log:
        assert await publish(log, "a", "2") == [2]
        assert (await log.read(Channels(["a"]), 0, 9)).lost == 0


def _copy(source: os.PathLike[str], target: os.PathLike[str]) -> None:
    """A copy of a folder, with its owners."""
    shutil.copytree(source, target, symlinks=True)
    owner = os.stat(source)
    if os.geteuid() == 0:
        for folder, _, names in os.walk(target):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(path, owner.st_uid, owner.st_gid)
