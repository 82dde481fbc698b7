"""What may stand between a page and its server: no network, sleep, a proxy with HTTP/2, a service worker."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from tests.fixtures.in_thread import uvicorn_in_thread
from tests.fixtures.proxies import HOST, Caddy
from tests.fixtures.tcp_proxy import TcpProxy

from newswire import EventSourceResponse, Hub, last_event_id
from newswire.browser import newswire_js

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

OPEN = """import('/newswire.js').then(({ connect }) => {
  Object.assign(globalThis, { seen: [], states: [], fetches: 0 });
  globalThis.source = connect("%s", {
    ...%s,
    backoff: { retry: 100, first: 100, cap: 500 },
    fetch: (...given) => (fetches++, fetch(...given)),
    onState: (state) => states.push(state),
  });
  source.on("message", ({ data }) => seen.push(data));
})"""
NEWS = "/channels/news?from=earliest"


def publish(server: Any, *numbers: int) -> None:
    for number in numbers:
        server.publish(str(number))


def subscribers(server: Any) -> int:
    return int(httpx2.get(f"{server.url}/console/stats").json()["subscribers"])


def settle(server: Any, count: int) -> None:
    """Wait until the server has so many streams."""
    deadline = time.monotonic() + 30
    while subscribers(server) != count:
        assert time.monotonic() < deadline, subscribers(server)
        time.sleep(0.05)


@pytest.mark.parametrize("options", ["{}", "{ shared: true }"], ids=["alone", "shared"])
def test_a_page_without_a_network_goes_on_when_it_is_back(server: Any, page: Any, options: str) -> None:
    """Offline and online again: nothing is lost or doubled, and no attempt waits for its back-off."""
    page.order(goto=f"{server.url}/health/live")
    page.evaluate(OPEN % (NEWS, options))
    publish(server, 0, 1)
    page.until("seen.length === 2")
    for turn in range(2):
        page.order(offline=True)
        publish(server, 2 + 2 * turn)
        page.order(offline=False)
        publish(server, 3 + 2 * turn)
        page.until(f"seen.length === {4 + 2 * turn}")
    assert page.evaluate("seen") == [0, 1, 2, 3, 4, 5]
    settle(server, 1)


@pytest.mark.parametrize("options", ["{}", "{ shared: true }"], ids=["alone", "shared"])
def test_a_page_that_was_frozen_goes_on(server: Any, pages: Any, options: str) -> None:
    """Chromium gives it nothing more of the answer, and no error: it asks again, long before its watchdog would."""
    pages.order(goto=f"{server.url}/health/live")
    pages.evaluate(OPEN % (NEWS, options.replace("{", "{ inactivity: 600_000, ", 1)))
    publish(server, 0)
    pages.until("seen.length === 1")
    pages.order(lifecycle="frozen")
    publish(server, 1)
    pages.order(lifecycle="active")
    publish(server, 2)
    pages.until("seen.length === 3")
    assert pages.evaluate("seen") == [0, 1, 2]
    settle(server, 1)


def test_a_frozen_post_that_can_not_go_on_is_left_alone(pages: Any) -> None:
    """Its server is slow, and nothing says where its answer could be read again: it may still come, and does."""
    goes_on = threading.Event()

    async def answer(request: Request) -> Response:
        async def words() -> AsyncIterator[str]:
            yield "one"
            await asyncio.to_thread(goes_on.wait, 30)
            yield "two"

        return EventSourceResponse(words())

    async def empty(request: Request) -> Response:
        return HTMLResponse("<!doctype html><body></body>")

    routes = [Route("/", empty), Route("/newswire.js", newswire_js), Route("/answer", answer, methods=["POST"])]
    with uvicorn_in_thread(Starlette(routes=routes)) as served:
        pages.order(goto=f"http://localhost:{served.port}/")
        pages.evaluate(OPEN % ("/answer", "{ method: 'POST' }"))
        pages.until("seen.length === 1")
        pages.order(lifecycle="frozen")
        pages.order(lifecycle="active")
        pages.evaluate("new Promise(done => setTimeout(done, 2500))")  # a stream that can go on is given one second
        goes_on.set()
        pages.until("states.at(-1) === 'closed'")
        assert pages.evaluate("seen") == ["one", "two"]


def test_nine_tabs_over_http_2_behind_caddy(server: Any, page: Any) -> None:
    """Nine tabs have nine streams on one connection, and the site stays free; a restart of the server loses nothing."""
    with Caddy(server.port) as caddy:
        server.kill()
        server.config.write_text(server.config.read_text() + f'allowed_hosts = ["{HOST}"]\n')
        server.start()
        tabs = page.tabs(9)
        for tab in tabs:
            tab.order(goto=f"{caddy.url}/health/live")
            tab.evaluate(OPEN % (NEWS, "{}"))
        assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        settle(server, 9)
        publish(server, 0, 1)
        assert page.evaluate("fetch('/health/live').then(({ ok }) => ok)")
        server.kill()
        page.until("states.at(-1) === 'connecting' && fetches > 2")  # a 502 of Caddy's
        server.start()
        publish(server, 2)
        for tab in tabs:
            tab.until("seen.length === 3")
            assert tab.evaluate("seen") == [0, 1, 2]
            tab.evaluate("source.close()")
        settle(server, 0)


WORKER = """
addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => event.respondWith(fetch(event.request)));
"""


def test_a_service_worker_in_between_changes_nothing(page: Any) -> None:
    """Events pass through a service worker that answers every request, with the cursor; `close` reaches the server."""
    hub = Hub("memory://")

    async def events(request: Request) -> Response:
        return EventSourceResponse(hub.subscribe("news", after=last_event_id(request), start="earliest"))

    async def publish(request: Request) -> Response:
        return JSONResponse(await hub.publish("news", (await request.body()).decode()))

    async def stats(request: Request) -> Response:
        return JSONResponse(hub.subscribers("news"))

    async def worker(request: Request) -> Response:
        return Response(WORKER, media_type="text/javascript")

    async def empty(request: Request) -> Response:
        return HTMLResponse("<!doctype html><body></body>")

    app = Starlette(
        routes=[
            Route("/", empty),
            Route("/worker.js", worker),
            Route("/newswire.js", newswire_js),
            Route("/events", events),
            Route("/publish", publish, methods=["POST"]),
            Route("/stats", stats),
        ],
        lifespan=hub.lifespan,
    )
    with uvicorn_in_thread(app) as served, TcpProxy(served.port) as proxy:
        page.order(goto=f"http://localhost:{proxy.port}/")
        page.evaluate("navigator.serviceWorker.register('/worker.js').then(() => 1)")
        page.until("navigator.serviceWorker.controller !== null")
        page.evaluate(OPEN % ("/events", "{}"))
        say = "fetch('/publish', {{ method: 'POST', body: '{}' }}).then(() => 1)"
        for number in (0, 1):
            page.evaluate(say.format(number))
        page.until("seen.length === 2")
        proxy.cut()
        page.evaluate(say.format(2))
        page.until("seen.length === 3")
        assert page.evaluate("seen") == [0, 1, 2]
        page.evaluate("source.close()")
        page.until("fetch('/stats').then((answer) => answer.json()).then((streams) => streams === 0)")
