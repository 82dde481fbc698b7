"""`newswire relay` as a command: what it says and refuses, and several processes with one log."""

from __future__ import annotations

import asyncio
import re
import signal
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.fixtures.serve import PATIENCE, Serve, call_newswire
from tests.fixtures.upstream import Call, Upstream

from newswire.wire import Decoder, Event

pytestmark = pytest.mark.anyio

KEY = {"authorization": "Bearer secret-of-a-user"}
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
PATH = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--upstream https://api.openai.com"),
        (["--upstream", "api.openai.com"], "https://api.openai.com"),
        (["--upstream", "http://a", "--upstream", "http://b"], "NAME=URL"),
        (["--upstream", "runs=http://a"], "'runs'"),
        (["--upstream", "http://a", "--host", "0.0.0.0"], "--insecure"),
        (["--upstream", "http://a", "--log", "sqlite:////no/such/folder/x.db"], "does not exist"),
        (["--upstream", "http://a", "--log", "memory://", "--workers", "2"], "use sqlite:///"),
        (["--upstream", "http://a", "--lease", "soon"], "a time such as"),
        (["--upstream", "http://a", "--lease", "1 fortnight"], "a time such as"),
        (["--upstream", "http://a", "--lease", "100ms"], "0.2 or more"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, arguments: list[str], says: str) -> None:
    """And no stack trace."""
    done = call_newswire("relay", "--port", "0", *arguments, folder=tmp_path)
    assert done.returncode != 0
    assert says in " ".join(done.stderr.decode().split())
    assert "Traceback" not in done.stderr.decode()


def test_show_config_names_every_source(tmp_path: Path) -> None:
    """Flags, variables, the section of the file, and defaults; what `serve` has there is none of the relay's."""
    (tmp_path / "newswire.toml").write_text(
        'port = 1\n[relay]\nupstreams = ["http://a", "b=http://me:pass@b"]\nlease = "4s"\n'
    )
    environment = {"NEWSWIRE_RELAY_GRACE": "20s", "NEWSWIRE_RETRY": "5000"}
    done = call_newswire("relay", "--show-config", "--timeout", "1h", folder=tmp_path, environment=environment)
    shown = {line.split()[0]: re.split(r"\s{2,}", line) for line in done.stdout.decode().splitlines()}
    assert shown["timeout"] == ["timeout", "60m", "--timeout"]
    assert shown["grace"] == ["grace", "20s", "NEWSWIRE_RELAY_GRACE"]
    assert shown["lease"] == ["lease", "4s", "newswire.toml, [relay] lease"]
    assert shown["upstreams"] == ["upstreams", "http://a, b=http://b", "newswire.toml, [relay] upstreams"]
    assert shown["port"] == ["port", "8100", "default"]
    assert "retry" not in shown
    assert not (tmp_path / "newswire.db").exists()


async def test_it_serves_what_its_file_says(upstream: Upstream, client: httpx2.AsyncClient, tmp_path: Path) -> None:
    """Upstreams and limits of the file's section, without a flag, beside what `serve` has in the same file."""

    async def script(call: Call) -> None:
        await call.answer(200, b"passed on")

    upstream.script = script
    (tmp_path / "newswire.toml").write_text(
        f'max_batch = 7\n[relay]\nupstreams = ["{upstream.url}"]\nmax-body = "1KiB"\n'
    )
    with Serve(tmp_path, command="relay") as relay:
        assert (await client.get(f"{relay.url}/v1/models")).text == "passed on"
        large = {**BODY, "messages": [{"role": "user", "content": "x" * 1024}]}
        assert (await client.post(relay.url + PATH, json=large)).status_code == 413


async def test_it_says_what_is_where(upstream: Upstream, tmp_path: Path) -> None:
    """Each upstream with its address here, without a password; and it stops when asked."""
    secret = upstream.url.replace("http://", "http://me:pass@")
    with Serve(tmp_path, "--upstream", upstream.url, "--upstream", f"other={secret}", command="relay") as relay:
        said = relay.stderr()
        assert f"{relay.url}  →  {upstream.url}" in said
        assert f"{relay.url}/other  →  {upstream.url}" in said
        assert "pass" not in said
        assert "answers are kept for 24h after their end" in said
        assert "keeps everything" not in said
        assert relay.stop() == 0


async def test_a_hangup_stops_it_in_order(upstream: Upstream, tmp_path: Path) -> None:
    """As when its terminal is closed: it has no settings to read again, and streams are not to break."""
    with Serve(tmp_path, "--upstream", upstream.url, command="relay") as relay:
        relay.process.send_signal(signal.SIGHUP)
        assert relay.process.wait(PATIENCE) == 0
        assert "stopped" in relay.stderr()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A scripted upstream."""
    async with Upstream() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client with credentials."""
    async with httpx2.AsyncClient(timeout=30, headers=KEY) as running:
        yield running


async def test_what_is_passed_on_is_the_upstreams(
    upstream: Upstream, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    """With its own request id, also where the relay gives ids; with a length only where it counts; from any path."""

    async def script(call: Call) -> None:
        given = {"x_request_id": "req_1"} if call.method == "POST" else {}
        await call.answer(200, call.target.encode(), content_length="3", **given)

    upstream.script = script
    with Serve(tmp_path, "--upstream", upstream.url, "--log-format", "json", command="relay") as relay:
        answer = await client.post(f"{relay.url}/v1/a%0Ab%0D%0A")
        assert (answer.status_code, answer.text) == (200, "/v1/a%0Ab%0D%0A")
        assert answer.headers.get_list("x-request-id") == ["req_1"]
        answer = await client.get(f"{relay.url}/v1/models", headers={"x-request-id": "mine"})
        assert (answer.status_code, answer.text) == (200, "/v1/models")
        assert len(answer.headers["x-request-id"]) == 16


PAGE = "https://a.example"
FROM_PAGE = {"origin": PAGE}


async def test_a_foreign_page_may_not_ask(upstream: Upstream, client: httpx2.AsyncClient, tmp_path: Path) -> None:
    """What it sends goes nowhere; what it gets has no leave for it to read, whatever the upstream says; a page of the
    relay's own origin, and a program, are not asked."""

    async def script(call: Call) -> None:
        await call.answer(200, b"passed on", access_control_allow_origin="*")

    upstream.script = script
    with Serve(tmp_path, "--upstream", upstream.url, command="relay") as relay:
        url = f"{relay.url}/v1/models"
        for method in ("POST", "DELETE"):
            refused = await client.request(method, url, headers=FROM_PAGE)
            assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin")
            assert "NEWSWIRE_RELAY_CORS_ORIGINS" in refused.json()["detail"]
        asking = {**FROM_PAGE, "access-control-request-method": "POST"}
        assert (await client.options(url, headers=asking)).status_code == 403
        assert not upstream.calls
        read = await client.get(url, headers=FROM_PAGE)
        assert (read.text, "access-control-allow-origin" in read.headers) == ("passed on", False)
        for headers in ({"origin": relay.url}, {}):
            assert (await client.post(url, headers=headers)).status_code == 200


async def test_a_page_of_a_configured_origin_asks_reads_and_stops(
    upstream: Upstream, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    """Preflights are answered here, everything else has the headers that let it read; the upstream knows of nothing."""

    async def script(call: Call) -> None:
        if call.target == PATH:
            await call.head(vary="accept-language", x_request_id="r1", access_control_allow_origin="https://other")
            await call.chunk("one")
            await call.gone.wait()
        else:
            await call.answer(401, b"no", access_control_allow_credentials="true", vary="accept-encoding")

    upstream.script = script
    with Serve(
        tmp_path,
        "--upstream",
        upstream.url,
        "--cors-origin",
        "https://b.example",
        "--cors-origin",
        PAGE,
        command="relay",
    ) as relay:

        def granted(answer: httpx2.Response) -> httpx2.Headers:
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert "access-control-allow-credentials" not in answer.headers
            assert "Origin" in answer.headers["vary"]
            return answer.headers

        for method, path in (("POST", PATH), ("DELETE", "/runs/relay.x"), ("GET", "/runs/relay.x"), ("PUT", "/v1/any")):
            asking = {**FROM_PAGE, "access-control-request-method": method}
            preflight = await client.options(relay.url + path, headers=asking)
            assert preflight.status_code == 204
            assert method in granted(preflight)["access-control-allow-methods"].split(", ")
            assert set(preflight.headers["access-control-allow-headers"].split(", ")) == {"*", "Authorization"}
        assert not upstream.calls

        request = client.build_request("POST", relay.url + PATH, json=BODY, headers=FROM_PAGE)
        stream = Stream(await client.send(request, stream=True))
        place = granted(stream.response)["content-location"]
        assert stream.response.headers["access-control-expose-headers"] == "*"
        assert stream.response.headers["x-request-id"] == "r1"
        first = await stream.next()

        watch = client.build_request("GET", relay.url + place, headers={**FROM_PAGE, "last-event-id": str(first.id)})
        watching = Stream(await client.send(watch, stream=True))
        granted(watching.response)
        granted(await client.get(f"{relay.url}/runs/relay.unknown", headers=FROM_PAGE))
        stopped = await client.delete(relay.url + place, headers=FROM_PAGE)
        assert (granted(stopped), stopped.json()["stopped"]) == (stopped.headers, True)
        for each in (stream, watching):
            assert '"stopped"' in (await each.rest())[-1].data

        passed = await client.get(f"{relay.url}/v1/models", headers=FROM_PAGE)
        assert (granted(passed)["vary"], passed.status_code) == ("accept-encoding, Origin", 401)
        foreign = await client.get(f"{relay.url}/v1/models", headers={"origin": "https://c.example"})
        assert "access-control-allow-origin" not in foreign.headers
    assert [call.headers.get("origin") for call in upstream.calls] == [None, None, "https://c.example"]


async def test_compressed(upstream: Upstream, client: httpx2.AsyncClient, tmp_path: Path) -> None:
    """Answers come as gzip, each piece at once and with its upstream's `Vary`; so does a resume. `HEAD` says the same;
    a client that takes no gzip gets none."""
    gone_on = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head(vary="accept-language")
        await call.chunk("one " * 100)
        await gone_on.wait()
        await call.chat_rest("two " * 100)

    async def until(answer: httpx2.Response, mark: str) -> bytes:
        raw, inflate, text = b"", zlib.decompressobj(31), ""
        async for piece in answer.aiter_raw():
            raw += piece
            text += inflate.decompress(piece).decode()
            if mark in text:
                break
        return raw

    upstream.script = script
    padding = ["--heartbeat", "1", "--heartbeat-padding", "2KiB"]
    with Serve(tmp_path, "--upstream", upstream.url, "--compress", *padding, command="relay") as relay:
        async with client.stream("POST", relay.url + PATH, json=BODY, headers={"accept-encoding": "gzip"}) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            assert {"accept-encoding", "accept-language"} <= set(answer.headers["vary"].split(", "))
            place = relay.url + answer.headers["content-location"]
            assert len(await until(answer, "one one")) < 400
        async with client.stream("GET", place, headers={"accept-encoding": "gzip"}) as answer:
            assert len(await until(answer, "\n:" + " " * 2048 + "\n")) > 2048  # as they are, also here
        gone_on.set()
        async with client.stream("GET", place, headers={"accept-encoding": "gzip"}) as answer:
            assert len(await until(answer, "[DONE]")) < 1000
        for accepted in ("identity", "gzip;q=0", "br, *;q=0"):
            plain = await client.get(place, headers={"accept-encoding": accepted})
            assert "content-encoding" not in plain.headers
            assert "accept-encoding" in plain.headers["vary"]
            assert plain.text.count("two ") == 100
        head = await client.head(place, headers={"accept-encoding": "br, gzip"})
        assert (head.headers["content-encoding"], head.headers["incremental"]) == ("gzip", "?1")


class Two:
    """Two relays with one log, and the events of their answers."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        flags = ("--upstream", upstream.url, "--lease", "1s", "--grace", "1s")
        self.first = Serve(folder, *flags, command="relay")
        self.second = Serve(folder, *flags, command="relay")

    def __enter__(self) -> tuple[Serve, Serve]:
        return self.first, self.second

    def __exit__(self, *exc: object) -> None:
        self.first.stop(signal.SIGKILL)
        self.second.stop()


class Stream:
    """An answer that is read event by event."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._decoder = Decoder()
        self._events: list[Event] = []
        self._chunks = response.aiter_raw()

    async def next(self) -> Event:
        """The next event."""
        while not self._events:
            self._events += self._decoder.feed(await anext(self._chunks))
        return self._events.pop(0)

    async def rest(self) -> list[Event]:
        """All that comes."""
        events, self._events = self._events, []
        async for chunk in self._chunks:
            events += self._decoder.feed(chunk)
        return events


async def ask(client: httpx2.AsyncClient, relay: Serve, key: str) -> Stream:
    """POST a completion."""
    headers = {"idempotency-key": key}
    request = client.build_request("POST", relay.url + PATH, json=BODY, headers=headers)
    return Stream(await client.send(request, stream=True))


async def test_two_processes_call_once(upstream: Upstream, client: httpx2.AsyncClient, tmp_path: Path) -> None:
    """Requests at the same moment, with one key, share an answer or an error; a later request gets no former error."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        if len(upstream.calls) == 1:
            await call.answer(503, b"busy")
        else:
            await call.chat("once")

    upstream.script = script
    with Two(tmp_path, upstream) as relays:
        for status, calls in ((503, 1), (200, 2)):
            go.clear()
            asking = [asyncio.ensure_future(ask(client, relay, "k")) for relay in relays * 4]
            await _until(client, relays, "newswire_runs_attached_total", 7 * calls)
            go.set()
            streams = await asyncio.gather(*asking)
            assert [stream.response.status_code for stream in streams] == [status] * 8
            bodies = [await stream.response.aread() for stream in streams]
            assert len(set(bodies)) == 1
            assert len(upstream.calls) == calls


async def test_a_stop_in_another_process_reaches_the_upstream(
    upstream: Upstream, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    """At once, and a reader of each process gets the end."""

    async def script(call: Call) -> None:
        await call.head()
        await call.chunk("one")
        await call.gone.wait()

    upstream.script = script
    with Two(tmp_path, upstream) as (first, second):
        stream = await ask(client, first, "k")
        await stream.next()
        place = stream.response.headers["content-location"]
        watching = Stream(await client.send(client.build_request("GET", second.url + place), stream=True))
        await watching.next()
        begun = time.monotonic()
        assert (await client.delete(second.url + place)).json()["stopped"] is True
        await upstream.calls[0].gone.wait()
        assert time.monotonic() - begun < 2  # 10 to 50 ms where it was measured: it is not polled for
        for each in (stream, watching):
            assert '"stopped"' in (await each.rest())[-1].data


async def test_a_worker_that_is_killed_leaves_an_end(
    upstream: Upstream, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    """In the middle of its answer readers get the end; before there was an answer, the key is free again."""

    async def middle(call: Call) -> None:
        await call.head()
        await call.chunk("half")
        await call.gone.wait()

    async def never(call: Call) -> None:
        await call.gone.wait()

    async def whole(call: Call) -> None:
        await call.chat("whole")

    with Two(tmp_path, upstream) as (first, second):
        upstream.script = middle
        stream = await ask(client, first, "k1")
        await stream.next()
        upstream.script = never
        dying = asyncio.ensure_future(ask(client, first, "k2"))
        while len(upstream.calls) < 2:
            await asyncio.sleep(0)
        place = stream.response.headers["content-location"]
        watching = Stream(await client.send(client.build_request("GET", second.url + place), stream=True))
        waiting = asyncio.ensure_future(ask(client, second, "k2"))
        await _until(client, (second,), "newswire_runs_attached_total", 1)
        first.stop(signal.SIGKILL)
        with pytest.raises(httpx2.TransportError):
            await dying
        assert '"interrupted"' in (await watching.rest())[-1].data
        refused = await waiting
        assert refused.response.status_code == 503
        assert refused.response.headers["retry-after"] == "1"
        await refused.response.aread()
        upstream.script = whole
        assert "whole" in (await (await ask(client, second, "k2")).rest())[0].data
        partial = await (await ask(client, second, "k1")).rest()
        assert "half" in partial[0].data
        assert '"interrupted"' in partial[-1].data
        assert len(upstream.calls) == 3


async def test_a_stop_lets_completions_come_to_their_end(
    upstream: Upstream, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    """Readers get a time to come back; what the upstream sends meanwhile is there when they do."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.chunk("one")
        await go.wait()
        await call.chunk(" two", finish="stop")
        await call.event("[DONE]")
        await call.end()

    upstream.script = script
    with Serve(tmp_path, "--upstream", upstream.url, command="relay") as relay:
        stream = await ask(client, relay, "k")
        first = await stream.next()
        stopping = asyncio.ensure_future(asyncio.to_thread(relay.stop))
        assert '"goodbye"' in (await stream.rest())[-1].data
        go.set()
        assert await stopping == 0
        relay.start()
        place = stream.response.headers["content-location"]
        request = client.build_request("GET", relay.url + place, headers={"last-event-id": str(first.id)})
        later = await Stream(await client.send(request, stream=True)).rest()
        assert [event.data for event in later if "content" in event.data][-1].count(" two") == 1
        assert later[-1].data == "[DONE]"
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("content", [b"", b"a body"])
async def test_a_client_that_leaves_ends_what_is_passed_on(
    upstream: Upstream, client: httpx2.AsyncClient, tmp_path: Path, content: bytes
) -> None:
    """Before the upstream has answered, and in the middle of its answer."""

    async def script(call: Call) -> None:
        if call.target == "/middle":
            await call.head(content_type="text/plain")
            await call.send(b"first")
        await call.gone.wait()

    upstream.script = script
    with Serve(tmp_path, "--upstream", upstream.url, command="relay") as relay:
        waiting = asyncio.ensure_future(client.put(f"{relay.url}/before", content=content))
        while not upstream.calls:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        request = client.build_request("PUT", f"{relay.url}/middle", content=content)
        answer = await client.send(request, stream=True)
        assert await anext(answer.aiter_raw()) == b"first"
        await answer.aclose()
        async with asyncio.timeout(10):
            for call in upstream.calls:
                await call.gone.wait()
        assert [call.body for call in upstream.calls] == [content, content]
        assert "Traceback" not in relay.stderr()


async def test_the_metrics_of_all_workers(upstream: Upstream, client: httpx2.AsyncClient, tmp_path: Path) -> None:
    """Calls, ends, tokens and readers, whichever worker had them."""

    async def script(call: Call) -> None:
        if call.target == PATH:
            await call.chat("a", "b")
        else:
            await call.answer(404, b"no")

    upstream.script = script
    with Serve(tmp_path, "--upstream", upstream.url, "--workers", "2", command="relay") as relay:
        for number in range(6):
            async with httpx2.AsyncClient(headers=KEY) as fresh:
                stream = await ask(fresh, relay, f"k{number}")
                await stream.rest()
                assert (await fresh.get(relay.url + "/v1/models")).text == "no"
        await _until(client, (relay,), 'newswire_relay_calls_total{status="200",upstream="default"}', 6)
        await _until(client, (relay,), 'newswire_relay_passed_total{status="404",upstream="default"}', 6)
        await _until(client, (relay,), "newswire_workers", 2)  # one may have started while the other had it all
        found = await _metrics(client, relay)
        assert found["newswire_relay_tokens_total"] == 12
        assert found['newswire_relay_passed_total{status="404",upstream="default"}'] == 6
        assert found['newswire_runs_ended_total{end="done"}'] == 6
        assert found['newswire_run_readers_total{kind="new"}'] == 6
        assert found['newswire_relay_first_token_seconds_bucket{le="+Inf"}'] == 6


async def _metrics(client: httpx2.AsyncClient, relay: Serve) -> dict[str, float]:
    text = (await client.get(f"{relay.url}/metrics")).text
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}


async def _until(client: httpx2.AsyncClient, relays: Any, name: str, value: float) -> None:
    """Wait until a number has come so far, all relays together."""
    async with asyncio.timeout(30):
        while sum([(await _metrics(client, relay)).get(name, 0) for relay in relays]) < value:
            await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "client"), [((), "127.0.0.1"), (("--trusted-proxy", "127.0.0.0/8"), "192.0.2.1")])
async def test_forwarded_headers_count_if_they_come_from_a_trusted_proxy(
    tmp_path: Path, flags: tuple[str, ...], client: str
) -> None:
    """Also from this machine: whoever sends them without being named is the client."""
    flags = ("--upstream", "http://127.0.0.1:9", "--access-log", "--log", "memory://", *flags)
    with Serve(tmp_path, *flags, command="relay") as server:
        httpx2.get(f"{server.url}/health/live?mine", headers={"x-forwarded-for": "192.0.2.1"}, timeout=PATIENCE)
        server.stop()
        told = (tmp_path / "stdout").read_text() + server.stderr()
    assert re.findall(r"([\d.]+):\d+ - \"GET /health/live\?mine", told) == [client]
