"""The doctor names each fault and its cure, and finds nothing where nothing is wrong."""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import fastapi.sse
import pytest
import sse_starlette
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from tests.docs.test_docs import serving as serving_app
from tests.doctor.faulty import FAULTS, GOOD, Request, healthy, numbers, serving
from tests.doctor.faulty import Response as Answer
from tests.fixtures.proxies import make_certificate
from tests.fixtures.serve import Serve

from newswire import EventSourceResponse, Hub, StreamOptions, last_event_id
from newswire.doctor import Patient, Report, examine
from newswire.doctor.findings import CURES

pytestmark = pytest.mark.anyio
AT_ONCE = 8  # of more, on a busy machine, some would seem slow
SLOW = {"silent": 17.0, "slow_head": 5.0, "by_two_seconds": 4.5, "one_newline": 3.5, "by_four_kilobytes": 4.0}


async def report_of(url: str, seconds: float = 1.2, **more: Any) -> Report:
    return await examine(Patient(url=url, seconds=seconds, **more))


@pytest.mark.slow
async def test_each_fault_is_named() -> None:
    """By its code, with words about what was seen, and with a cure; and nothing that is not there."""

    turns = asyncio.Semaphore(AT_ONCE)
    names = sorted(FAULTS, key=lambda name: SLOW.get(name, 2.0), reverse=True)  # no long one is alone at the end

    async def codes_of(name: str) -> list[str]:
        async with turns:
            with serving(FAULTS[name][1]) as url:
                report = await report_of(url, SLOW.get(name, 2.0))
        assert all(each.what and each.cure == CURES[each.code] for each in report.findings)
        return [each.code for each in report.findings]

    found = dict(zip(names, await asyncio.gather(*map(codes_of, names)), strict=True))
    assert found == {name: [code] for name, (code, _) in FAULTS.items()}
    assert len(FAULTS) > 20


@pytest.mark.slow
async def test_a_healthy_stream_is_clean() -> None:
    """Events, ids, retry, resume, HEAD."""
    with serving(healthy) as url:
        report = await report_of(url)
    assert report.findings == ()
    assert report.unreachable is None


CHANGES: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "bytes": lambda block: [block[at : at + 1] for at in range(len(block))],
    "byte order mark": lambda block: [b"\xef\xbb\xbf" + block if block.startswith(b"retry") else block],
    "CRLF": lambda block: [block.replace(b"\n", b"\r\n")],
    "CR": lambda block: [block.replace(b"\n", b"\r")],
    "long lines": lambda block: [block.replace(b"event", b"x" * 200_000)],
    "cut characters": lambda block: [(cut := block.replace(b"event", "\u20ac".encode()))[:15], cut[15:]],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.slow
async def test_whatever_a_healthy_stream_looks_like(change: Callable[[bytes], Iterable[bytes]]) -> None:
    """Other ends of lines, other sizes of chunks: no reader minds."""

    async def serve(request: Request, answer: Answer) -> None:
        await answer.head()
        if request.method == "HEAD":
            return
        for piece in filter(None, change(b"retry: 2000\n\n")):  # an empty one would end the body
            await answer.body(piece)
        async for _, block in numbers(request.cursor):
            for piece in filter(None, change(block.encode())):
                await answer.body(piece)

    with serving(serve) as url:
        assert (await report_of(url)).findings == ()


async def test_ours_is_clean(tmp_path: Any) -> None:
    """`newswire serve`, quiet and while events come."""
    with Serve(tmp_path) as server:
        assert (await report_of(f"{server.url}/channels/quiet")).findings == ()

        async def publish() -> None:
            hub = asyncio.get_running_loop()
            for number in range(20):
                await hub.run_in_executor(None, server.publish, "news", f"event {number}")
                await asyncio.sleep(0.05)

        publishing = asyncio.create_task(publish())
        assert (await report_of(f"{server.url}/channels/news?from=earliest")).findings == ()
        await publishing


@pytest.mark.slow
async def test_ours_in_an_application_is_clean() -> None:
    """An `EventSourceResponse` in Starlette."""
    async with Hub("memory://") as hub:

        async def events(request: Any) -> Response:
            subscription = hub.subscribe("news", after=last_event_id(request), start="earliest")
            return EventSourceResponse(subscription, options=StreamOptions(heartbeat=1))

        for number in range(5):
            await hub.publish("news", number)
        async with serving_app(Starlette(routes=[Route("/", events)])) as url:
            assert (await report_of(url)).findings == ()


@pytest.mark.slow
async def test_servers_of_others_are_clean() -> None:
    """sse-starlette and FastAPI's own streams, as their documentation has them, with ids and a resume."""

    def after(request: Any) -> int:
        given = request.headers.get("last-event-id", "")
        return int(given) if given.isdigit() else 0

    async def theirs(request: Any) -> Response:
        async def events() -> AsyncIterator[dict[str, Any]]:
            for number in itertools.count(after(request) + 1):
                yield {"id": str(number), "data": f"event {number}", "retry": 2000}
                await asyncio.sleep(0.02)

        return sse_starlette.EventSourceResponse(events())

    fast = FastAPI()

    @fast.get("/", response_class=fastapi.sse.EventSourceResponse)
    async def items(request: fastapi.Request) -> AsyncIterator[fastapi.sse.ServerSentEvent]:
        for number in itertools.count(after(request) + 1):
            yield fastapi.sse.ServerSentEvent(data={"number": number}, id=str(number), retry=2000)
            await asyncio.sleep(0.02)

    for app in (Starlette(routes=[Route("/", theirs)]), fast):
        async with serving_app(app) as url:
            assert [(each.code, each.what) for each in (await report_of(url)).findings] == []


@pytest.mark.slow
async def test_a_server_with_other_headers_is_clean() -> None:
    """Those of a Mercure hub, and ids that are URNs."""
    more = 'Pragma: no-cache\r\nExpires: 0\r\nLast-Event-ID: earliest\r\nLink: </hub>; rel="mercure"\r\n'
    control = "private, no-cache, no-store, must-revalidate, max-age=0"

    async def serve(request: Request, answer: Answer) -> None:
        await answer.head(headers=GOOD.replace("no-cache", control) + more)
        if request.method == "HEAD":
            return
        await answer.body(":\n")
        name = request.headers.get("last-event-id", "").removeprefix("urn:uuid:")
        async for number, block in numbers(uuid.UUID(name).int if "-" in name and len(name) == 36 else None):
            await answer.body("retry: 2000\n" + block.replace(f"id: {number}", f"id: {uuid.UUID(int=number).urn}"))

    with serving(serve) as url:
        assert [(each.code, each.what) for each in (await report_of(url)).findings] == []


async def test_an_answer_that_says_by_204_that_it_is_over_is_clean() -> None:
    """One event, its end, and to a reader that comes back: no more."""

    async def serve(request: Request, answer: Answer) -> None:
        if "last-event-id" in request.headers:
            await answer.head("204 No Content", chunked=False)
            return
        await answer.head()
        await answer.body("retry: 2000\nid: 1\ndata: all\n\n")
        await answer.end()

    with serving(serve) as url:
        assert [(each.code, each.what) for each in (await report_of(url, 0.5)).findings] == []


@pytest.mark.slow
async def test_a_server_that_lets_in_one_at_a_time_and_knows_it_by_a_cookie() -> None:
    """The long watch comes first; a reconnect brings the cookies, and waits while the server still has the others."""
    streams: list[Request] = []

    async def one(request: Request, response: Answer) -> None:
        known = request.headers.get("cookie") == "who=1"
        if streams or (not known and "last-event-id" in request.headers):
            await response.head("429 Too Many Requests" if streams else "401 Unauthorized")
            await response.end()
            return
        streams.append(request)
        try:
            await response.head(headers=GOOD + "Set-Cookie: who=1\r\n")
            async for _, block in numbers(request.cursor):
                await response.body(block)
        finally:
            streams.clear()

    with serving(one) as url:
        report = await report_of(url)
    assert report.watched.status == 200
    assert [(each.code, each.what) for each in report.findings] == []


async def test_a_redirect_to_a_login_is_named() -> None:
    """The address that answered explains the answer."""

    async def login(request: Request, response: Answer) -> None:
        if request.number:
            await response.head(headers="Content-Type: text/html\r\n")
        else:
            await response.head("302 Found", headers="Location: /login\r\n")
        await response.end()

    with serving(login) as url:
        report = await report_of(url, 0.5)
    [found] = report.findings
    assert found.what == f"the Content-Type is 'text/html', after 1 redirect to {url.removesuffix('/events')}/login"


@pytest.mark.parametrize(("last", "noted"), [("c", True), ("[DONE]", False)])
async def test_a_finite_stream_is_a_note(last: str, noted: bool) -> None:
    """It may be meant so; one that says that it is over is nothing worth knowing."""

    async def answer(request: Request, response: Answer) -> None:
        await response.head()
        for name in ("a", "b", last):
            await response.body(f"id: {name}\ndata: {name}\n\n")
        await response.end()

    with serving(answer) as url:
        report = await report_of(url, 0.5)
    assert ("ends" in [each.code for each in report.notes]) is noted
    assert "ends" not in [each.code for each in report.findings]


async def test_a_post_is_sent_once() -> None:
    """It may cost money; the body and the headers arrive."""
    seen: list[tuple[str, bytes, str | None]] = []

    async def answer(request: Any) -> Response:
        seen.append((request.method, await request.body(), request.headers.get("x-key")))

        async def tokens() -> AsyncIterator[str]:
            yield "hello"

        return EventSourceResponse(tokens())

    async with serving_app(Starlette(routes=[Route("/", answer, methods=["POST"])])) as url:
        report = await report_of(url, method="POST", body=b'{"q":1}', headers={"X-Key": "k"})
    assert seen == [("POST", b'{"q":1}', "k")]
    assert report.findings == ()  # no reader goes on with an answer to a POST, so ids are only a note
    assert "no-ids" in [each.code for each in report.notes]


@pytest.mark.slow
async def test_an_origin_that_may_not_read() -> None:
    """Only an origin that was given is judged."""
    with serving(healthy) as url:
        report = await report_of(url, origin="https://app.example")
    assert [each.code for each in report.findings] == ["cors"]


SECRETS = {"Authorization": "Bearer t", "Cookie": "a=b", "X-Api-Key": "k", "X-Tenant-Id": "7", "X-Other": "o"}


@pytest.mark.slow
async def test_credentials_stay_with_their_origin() -> None:
    """They follow no redirect to another origin; other headers do."""
    seen: list[Request] = []

    async def here(request: Request, answer: Answer) -> None:
        seen.append(request)
        await answer.head("307 Temporary Redirect", f"Location: {there}\r\nContent-Length: 0\r\n", chunked=False)

    async def elsewhere(request: Request, answer: Answer) -> None:
        seen.append(request)
        await healthy(request, answer)

    with serving(elsewhere) as there, serving(here) as url:
        await report_of(url, 0.3, headers=SECRETS)
        home = url.split("/")[2]
    sent = {(request.headers["host"] == home): request.headers for request in seen}
    assert sorted(sent) == [False, True]
    names = {name.lower() for name in SECRETS}
    assert names <= set(sent[True])
    assert names & set(sent[False]) == {"x-other"}


@pytest.mark.slow
async def test_credentials_stay_with_a_server_that_proves_who_it_is(tmp_path: Path) -> None:
    """A certificate that is refused is examined further, without them."""
    seen: list[Request] = []

    async def serve(request: Request, answer: Answer) -> None:
        seen.append(request)
        await healthy(request, answer)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(tmp_path))
    with serving(serve, context) as url:
        report = await report_of(url.replace("https://", "https://me:pass@"), 0.3, headers=SECRETS)
    assert report.findings[0].code == "tls"
    assert "no credentials" in report.findings[0].what
    assert {name for request in seen for name in request.headers} & {name.lower() for name in SECRETS} == {"x-other"}


async def test_nobody_there() -> None:
    """Not a finding: there is no stream to judge."""
    report = await report_of("http://127.0.0.1:9/events")
    assert report.unreachable == "connection refused"
    assert report.findings == ()
    found = report.as_json()
    assert [each["code"] for each in found["findings"]] == ["unreachable"]
    assert found["findings"][0]["cure"] == CURES["unreachable"]


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "newswire.cli.main", "doctor", *arguments], capture_output=True, text=True, timeout=60
    )


def test_the_command() -> None:
    """Exit codes 0, 1 and 2; JSON for programs, words for people."""
    with serving(healthy) as url:
        done = doctor(url, "--for", "1")
        assert (done.returncode, "nothing is wrong" in done.stdout) == (0, True), done
    with serving(FAULTS["pretty_json"][1]) as url:
        done = doctor(url.removeprefix("http://"), "--for", "1", "--json")
        assert done.returncode == 1
        found = json.loads(done.stdout)
        assert set(found) == {"url", "findings"}
        assert [set(each) for each in found["findings"]] == [{"code", "severity", "what", "cure"}]
        assert found["url"] == url
        done = doctor(url, "--for", "1", "--header", "X-A: b")
        assert "✗ unknown-lines" in done.stdout
        assert "data: before each of its lines" in done.stdout.replace("\n    ", " ")
    done = doctor("http://127.0.0.1:99999/", "--json")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert [each["code"] for each in json.loads(done.stdout)["findings"]] == ["unreachable"]
    done = doctor("http://user:secret@127.0.0.1:9/", "--json")
    assert (done.returncode, "secret" in done.stdout + done.stderr) == (2, False)
    assert doctor("ftp://example.org").returncode == 2
