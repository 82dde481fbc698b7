"""The React hooks and the runs of the JavaScript client, in Chromium, on a hub that the test holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from tests.fixtures.in_thread import uvicorn_in_thread
from tests.fixtures.tcp_proxy import TcpProxy

from newswire import EventSourceResponse, Hub, Member, StreamOptions, last_event_id
from newswire.browser import newswire_js
from newswire.runs import Runs

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

WORDS = [f"word{number} " for number in range(40)]
DIALECTS = ["openai-chat", "openai-responses", "anthropic", "ai-sdk", "ag-ui"]
# Listeners that a page has on what outlives a component.
COUNT = """void (() => {
  globalThis.listeners = 0;
  for (const target of [window, document]) {
    const { addEventListener, removeEventListener } = target;
    const own = /^(pageshow|pagehide|online|visibilitychange|resume|freeze)$/;
    target.addEventListener = (type, ...rest) => {
      listeners += own.test(type);
      addEventListener.call(target, type, ...rest);
    };
    target.removeEventListener = (type, ...rest) => {
      listeners -= own.test(type);
      removeEventListener.call(target, type, ...rest);
    };
  }
  const { fetch } = globalThis;
  globalThis.fetches = 0;
  globalThis.fetch = (...given) => (fetches++, fetch(...given));
})()"""


class App:
    """A hub, its runs, and a page."""

    def __init__(self, script: bytes) -> None:
        self.hub = Hub("memory://", presence=["room"])
        stream = StreamOptions(retry=50, heartbeat=0.5)
        self.runs = Runs(self.hub, public=True, stream=stream)
        self.started = 0
        self.paces = 0.02
        self.dialect: str | None = None  # of answers

        async def events(request: Request) -> Response:
            return EventSourceResponse(self.hub.subscribe("prices", after=last_event_id(request)), options=stream)

        async def room(request: Request) -> Response:
            return EventSourceResponse(self.hub.subscribe("room", presence=Member("ada")), options=stream)

        async def publish(request: Request) -> Response:
            await self.hub.publish("prices", {"value": int(await request.body())}, event="price")
            return Response()

        async def stats(request: Request) -> Response:
            return JSONResponse(self.hub.subscribers("prices"))

        async def tokens() -> AsyncIterator[str]:
            self.started += 1
            for word in WORDS:
                await asyncio.sleep(self.paces)
                yield word

        async def start(request: Request) -> Response:
            await request.body()
            run = await self.runs.start(
                "chat", tokens(), key=request.headers.get("idempotency-key"), meta={"model": "test"}
            )
            return self.runs.response(request, run, dialect=self.dialect)

        async def read(request: Request) -> Response:
            return self.runs.response(request, request.path_params["id"], dialect=self.dialect)

        async def stop(request: Request) -> Response:
            return JSONResponse(await self.runs.stop(request.path_params["id"]))

        async def page(request: Request) -> Response:
            return HTMLResponse("<!doctype html><body></body>")

        async def react(request: Request) -> Response:
            return Response(script, media_type="text/javascript")

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with self.hub, self.runs:
                yield

        self.app = Starlette(
            routes=[
                Route("/", page),
                Route("/react.js", react),
                Route("/newswire.js", newswire_js),
                Route("/events", events),
                Route("/room", room),
                Route("/publish", publish, methods=["POST"]),
                Route("/stats", stats),
                Route("/answers", start, methods=["POST"]),
                Route("/answers/{id}", read),
                Route("/answers/{id}/stop", stop, methods=["POST"]),
            ],
            lifespan=lifespan,
        )


@dataclass
class Served:
    app: App
    proxy: TcpProxy
    url: str


@pytest.fixture
def served(bundle: Callable[[str], bytes]) -> Iterator[Served]:
    app = App(bundle("react_app.js"))
    with uvicorn_in_thread(app.app) as server, TcpProxy(server.port) as proxy:
        yield Served(app, proxy, f"http://127.0.0.1:{proxy.port}")


@pytest.fixture
def react(served: Served, page: Any) -> Any:
    """A page with the components."""
    page.order(goto=served.url)
    page.evaluate(COUNT)
    page.evaluate("import('/react.js').then((react) => void Object.assign(globalThis, react))")
    page.evaluate("import('/newswire.js').then((newswire) => void Object.assign(globalThis, { newswire }))")
    page.evaluate("globalThis.publish = (value) => fetch('/publish', { method: 'POST', body: String(value) })")
    return page


def test_a_hundred_mounts_leave_nothing(served: Served, react: Any) -> None:
    """Under StrictMode each mount makes one request, and each unmount ends its connection and its listeners."""
    react.evaluate("""(async () => {
      for (let n = 0; n < 100; n++) {
        const app = mount("Prices", { url: "/events", mark: "" });
        if (n % 3 === 0) await new Promise((go) => setTimeout(go)); // some are gone before their stream is there
        else while (!app.text().startsWith("open")) await new Promise((go) => setTimeout(go, 1));
        app.unmount();
      }
    })()""")
    assert react.evaluate("fetches") <= 100
    assert react.evaluate("listeners") == 0
    react.until("fetch('/stats').then((answer) => answer.json()).then((count) => count === 0)")
    assert react.errors == []


def test_events_reach_the_newest_handler(served: Served, react: Any) -> None:
    """A new handler is called without a new connection; another URL makes one; a state shows what happens."""
    react.evaluate("void (globalThis.app = mount('Prices', { url: '/events', mark: 'a' }))")
    react.until("app.text() === 'open - '")
    react.evaluate("publish(1).then(() => 1)")
    react.until("app.text() === 'open - a1'")
    react.evaluate("app.show({ url: '/events', mark: 'b' })")
    react.evaluate("publish(2).then(() => 1)")
    react.until("app.text() === 'open - a1,b2'")
    assert react.evaluate("fetches") == 3  # two of them have published
    served.proxy.cut()
    react.evaluate("publish(3).then(() => 1)")
    react.until("app.text() === 'open - a1,b2,b3'")
    react.evaluate("app.show({ url: '/nothing', mark: 'b' })")
    react.until("app.text() === 'closed 404 a1,b2,b3'")
    react.evaluate("app.show({ url: null, mark: 'b' })")
    react.until("fetch('/stats').then((answer) => answer.json()).then((count) => count === 0)")


def test_a_state_is_that_of_the_url_shown(served: Served, react: Any) -> None:
    """Without a URL it is `closed`; with another one nothing is left of the one before."""
    react.evaluate("void (globalThis.app = mount('Prices', { url: null, mark: '' }))")
    react.until("app.text() === 'closed - '")
    react.evaluate("app.show({ url: '/nothing', mark: '' })")
    react.until("app.text() === 'closed 404 '")
    react.evaluate("app.show({ url: 'http://[', mark: '' })")
    react.until("app.text() === 'closed - '")
    react.evaluate("app.show({ url: '/events', mark: '' })")
    react.until("app.text() === 'open - '")
    react.evaluate("app.show({ url: null, mark: '' })")
    react.until("app.text() === 'closed - '")
    assert react.errors == []


def test_a_header_field_that_no_request_can_carry(served: Served, react: Any) -> None:
    """It closes the connection, which would else try for ever."""
    headers = "options: { headers: { 'x-name': 'Łódź' } }"
    react.evaluate(f"void (globalThis.app = mount('Named', {{ url: '/events', names: [], {headers} }}))")
    react.until("app.text() === 'closed '")
    assert react.evaluate("fetches") == 0


@pytest.mark.parametrize("transport", ["fetch", "native"])
def test_handlers_by_name(served: Served, react: Any, transport: str) -> None:
    """A name may come with a later render, and be newswire's own: the members of a channel."""
    options = f"options: {{ transport: '{transport}' }}"
    react.evaluate(f"void (globalThis.app = mount('Named', {{ url: '/events', names: [], {options} }}))")
    react.until("app.text() === 'open '")
    react.evaluate(f"app.show({{ url: '/events', names: ['price'], {options} }})")
    react.evaluate("publish(1).then(() => 1)")
    react.until("app.text() === 'open price 1'")
    react.evaluate(f"app.show({{ url: '/room', names: ['newswire.presence'], {options} }})")
    react.until("app.text() === 'open price 1,newswire.presence ada'")


def test_nothing_is_opened_on_a_server(served: Served, react: Any) -> None:
    """Rendered to a string, a component shows that it connects."""
    assert react.evaluate("html('Prices', { url: '/events', mark: '' })") == "<p>connecting - </p>"
    assert react.evaluate("html('Answer', {})") == "<p>idle - - </p>"
    assert react.evaluate("fetches") == 0


def test_a_run_goes_on_in_a_component_that_comes_back(served: Served, react: Any) -> None:
    """Started by a POST, unmounted in the middle, mounted again, and the page loaded again: one run, the whole text."""
    whole = "".join(WORDS)
    served.app.paces = 0.08
    react.evaluate("void (globalThis.app = mount('Answer', { remember: 'chat' }))")
    assert react.evaluate("app.text()") in ("", "idle - - ")
    react.until("!!globalThis.answer")
    react.evaluate("answer.start('why?')")
    react.until("app.text().includes('word3 ')")
    react.evaluate("app.unmount()")
    react.evaluate("void (globalThis.app = mount('Answer', { remember: 'chat' }))")
    react.until("app.text().includes('word9 ')")
    react.order(reload=True)
    react.evaluate("import('/react.js').then((react) => void Object.assign(globalThis, react))")
    react.evaluate("void (globalThis.app = mount('Answer', { remember: 'chat' }))")
    react.until(f"app.text() === 'closed done - {whole}'")
    assert served.app.started == 1
    assert react.evaluate("sessionStorage.length") == 0


def test_a_run_goes_on_where_it_was_hidden(served: Served, react: Any) -> None:
    """A component that comes back reads its run on, remembered or not; a run that has ended stays as it is."""
    whole = "".join(WORDS)
    for remember in ("undefined", "'chat'"):
        react.evaluate(f"void (globalThis.app = mount('Hidden', {{ remember: {remember} }}))")
        react.until("!!globalThis.answer")
        served.app.paces = 0.08
        react.evaluate("answer.start('why?')")
        react.until("app.text().includes('word3 ')")
        react.evaluate(f"app.show({{ remember: {remember}, hidden: true }})")
        react.until("document.querySelector('p').style.display === 'none'")
        react.evaluate(f"app.show({{ remember: {remember} }})")
        react.until(f"app.text() === 'closed done - {whole}'")
        react.evaluate(f"app.show({{ remember: {remember}, hidden: true }})")
        react.until("document.querySelector('p').style.display === 'none'")
        react.evaluate(f"app.show({{ remember: {remember} }})")
        react.until("document.querySelector('p').style.display !== 'none'")
        assert react.evaluate("app.text()") == f"closed done - {whole}"
        react.evaluate("app.unmount()")
    assert served.app.started == 2


def test_a_double_click_starts_one_run(served: Served, react: Any) -> None:
    """A button that is disabled while a run is read is so before the second click comes."""
    react.evaluate("void (globalThis.app = mount('Button', {}))")
    react.until("app.text() === 'idle'")
    twice = "for (const _ of [1, 2]) { document.querySelector('button').click(); await null; }"
    react.evaluate(f"(async () => {{ {twice} }})()")
    react.until("app.text() === 'closed'")
    assert served.app.started == 1


def test_another_chat_shows_nothing_of_the_one_before(served: Served, react: Any) -> None:
    """A component that is given another run to remember forgets the text of the first."""
    served.app.paces = 0.08
    react.evaluate("void (globalThis.app = mount('Answer', { remember: 'one' }))")
    react.until("!!globalThis.answer")
    react.evaluate("answer.start('why?')")
    react.until("app.text().includes('word3 ')")
    react.evaluate("app.show({ remember: 'two' })")
    react.until("app.text() === 'idle - - '")
    react.evaluate("app.show({ remember: 'one' })")
    react.until("app.text().includes('word5 ')")


def test_a_run_is_stopped_for_everybody(served: Served, react: Any) -> None:
    """`stop` ends the run itself."""
    served.app.paces = 0.2
    react.evaluate("void (globalThis.app = mount('Answer', {}))")
    react.until("!!globalThis.answer")
    react.evaluate("answer.start('why?')")
    react.until("app.text().includes('word1 ')")
    react.evaluate("answer.stop().then(() => 1)")
    react.until("app.text().startsWith('closed stopped')")


def test_a_run_survives_cuts_and_refreshes(served: Served, react: Any) -> None:
    """A POST starts it, a cut connection goes on with GET, and a page that was loaded again finds it."""
    options = "{ body: 'why?', remember: 'a', headers: { 'content-type': 'text/plain' } }"
    served.app.paces = 0.08
    react.evaluate(f"void (globalThis.run = newswire.streamRun('/answers', {options}))")
    react.until("run.text.includes('word5 ')")
    served.proxy.cut()
    react.until("run.text.includes('word15 ')")
    react.order(reload=True)
    react.evaluate("""import('/newswire.js').then(({ resumeRun }) => {
      globalThis.run = resumeRun('a');
      globalThis.parts = [];
      run.onText((_, added) => parts.push(added));
    })""")
    assert react.evaluate("run.done") == react.evaluate("run.end") == {"reason": "done"}
    assert react.evaluate("run.text") == react.evaluate("parts.join('')") == "".join(WORDS)
    assert react.evaluate("import('/newswire.js').then(({ resumeRun }) => resumeRun('a'))") is None
    assert served.app.started == 1


def test_a_chat_reads_every_format(served: Served, react: Any) -> None:
    """Whatever format the server writes, and whenever the connection is cut, the text is whole and comes once."""
    for number, dialect in enumerate([None, *DIALECTS]):
        served.app.dialect = dialect
        react.evaluate("void (globalThis.run = newswire.streamChat('/answers', { body: { question: 'why?' } }))")
        react.until("run.text.includes('word5 ')")
        served.proxy.cut()
        react.until("run.text.includes('word20 ')")
        if dialect == "anthropic":
            served.app.dialect = None  # a run may be read on in another format
        served.proxy.cut()
        assert react.evaluate("run.done.then(({ reason }) => reason)") == "done"
        assert react.evaluate("run.text") == "".join(WORDS), dialect
        assert served.app.started == number + 1
