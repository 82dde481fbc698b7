"""Ten tabs on one connection: `connect(url, { shared: true })` in Chromium, and every way in which a leader goes."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from newswire import Hub, Position

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

TABS = 10
OPEN = """import('/newswire.js').then(({ connect }) => {
  Object.assign(globalThis, { seen: [], fetches: 0, reads: new Set(), gaps: 0, live: 0, longest: 0 });
  let last = 0;
  globalThis.source = connect("%s", {
    shared: %s,
    fetch(url, init) {
      fetches++;
      reads.add(init.signal);
      init.signal.addEventListener("abort", () => reads.delete(init.signal));
      return fetch(url, init);
    },
    onGap: () => gaps++,
    onCaughtUp: () => live++,
  });
  source.on("*", ({ data, channel }) => {
    const now = performance.now();
    if (last) longest = Math.max(longest, now - last);
    last = now;
    seen.push([channel, data]);
  });
})"""


class Publisher:
    """Publishes numbers to channels, one every 20 ms, until it is stopped."""

    def __init__(self, url: str, *channels: str) -> None:
        self.sent = 0
        self._url = url
        self._channels = channels
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> int:
        """How many were published to each channel."""
        self._stopping.set()
        self._thread.join()
        return self.sent

    def _run(self) -> None:
        with httpx2.Client(base_url=self._url) as client:
            while not self._stopping.wait(0.02):
                for channel in self._channels:
                    client.post(f"/channels/{channel}", content=str(self.sent)).raise_for_status()
                self.sent += 1


def subscribers(server: Any) -> int:
    """Streams that the server has open."""
    return int(httpx2.get(f"{server.url}/console/stats").json()["subscribers"])


def settle(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    pause = threading.Event()
    for _ in range(600):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("it did not come to that in 30 s")


def open_tabs(server: Any, pages: Any, url: str, count: int = TABS, *, shared: str = "true") -> list[Any]:
    """Tabs that read one URL."""
    tabs = pages.tabs(count)
    for tab in tabs:
        tab.order(goto=f"{server.url}/health/live")
        tab.evaluate(OPEN % (url, shared))
    return tabs


def leader(tabs: list[Any]) -> Any:
    """The tab that reads a stream."""
    (leads,) = [tab for tab in tabs if tab.evaluate("reads.size") > 0]
    return leads


def numbers(tab: Any) -> list[int]:
    """What a tab saw."""
    return [number for _, number in tab.evaluate("seen")]


def all_from_first(seen: list[int], sent: int) -> None:
    """Each number once and in order, from the first that was seen."""
    assert seen
    assert seen == list(range(seen[0], sent)), [pair for pair in itertools.pairwise(seen) if pair[1] != pair[0] + 1]


@pytest.fixture
def publisher(server: Any) -> Iterator[Publisher]:
    with Publisher(server.url, "news") as publisher:
        yield publisher


def test_the_lead_is_handed_over(server: Any, pages: Any, publisher: Publisher) -> None:
    """One connection for ten tabs. The leader is closed, the next one killed, the next one frozen.

    Each of the others has each event once, and waits less than 2 s for the next one.
    """
    tabs = open_tabs(server, pages, "/channels/news")
    for tab in tabs:
        tab.until("seen.length > 20")
    assert subscribers(server) == 1
    assert sum(tab.evaluate("fetches") for tab in tabs) == 1
    others = list(tabs)
    for how in ({"close": True}, {"crash": True}, {"lifecycle": "frozen"}):
        old = leader(others)
        others.remove(old)
        for tab in others:
            tab.evaluate("longest = 0")
        old.order(**how)
        settle(lambda: sum(tab.evaluate("reads.size") for tab in others) > 0)
        await_more(others)
        longest = max(tab.evaluate("longest") for tab in others)
        print(f"{how}: {longest:.0f} ms from one event to the next")
        assert longest < 2000
    old.order(lifecycle="active")  # it finds that it leads no more, follows, and lacks nothing
    await_more([old])
    sent = publisher.stop()
    for tab in [old, *others]:
        tab.until(f"seen.at(-1)?.[1] === {sent - 1}")
        all_from_first(numbers(tab), sent)
        assert tab.evaluate("gaps") == 0
    settle(lambda: subscribers(server) == 1)


def await_more(tabs: list[Any]) -> None:
    """Wait until each tab has got a second's events more."""
    for tab in tabs:
        tab.evaluate("globalThis.count = seen.length")
        tab.until("seen.length > count + 30")


def test_unshared_tabs_block_the_site(server: Any, pages: Any) -> None:
    """A browser has six connections to a host over HTTP/1.1. Nine streams take them all; shared, they take one."""
    tabs = pages.tabs(9)
    for tab in tabs:
        tab.order(goto=f"{server.url}/health/live")
        tab.evaluate("import('/newswire.js').then(() => 1)")  # the seventh tab could not load it any more
    for tab in tabs:
        tab.evaluate(OPEN % ("/channels/news", "false"))
    settle(lambda: subscribers(server) == 6)
    late = "new Promise((done) => setTimeout(done, 1500, 'blocked'))"
    blocked = f"Promise.race([fetch('/health/live').then(() => 'answered'), {late}])"
    assert tabs[0].evaluate(blocked) == "blocked"
    for tab in tabs:
        tab.evaluate("source.close()")
    settle(lambda: subscribers(server) == 0)
    for tab in tabs:
        tab.evaluate(OPEN % ("/channels/news", "true"))
    for tab in tabs:
        tab.until("source.state === 'open'")
    assert subscribers(server) == 1
    assert tabs[0].evaluate(blocked) == "answered"


def test_subscriptions_are_the_union(server: Any, pages: Any) -> None:
    """Tabs that read different channels share one stream, each hears its own channels, and none misses an event."""
    with Publisher(server.url, "a.1", "b.1", "c") as publisher:
        tabs = pages.tabs(4)
        urls = ["/stream?channel=a.1", "/stream?channel=b.*", "/stream?channel=c&channel=a.>", "/stream?channel=b.1"]
        for tab, url in zip(tabs, urls, strict=True):
            tab.order(goto=f"{server.url}/health/live")
            tab.evaluate(OPEN % (url, "true"))
            tab.until("seen.length > 10")
        settle(lambda: subscribers(server) == 1)
        old = leader(tabs)
        old.order(close=True)
        others = [tab for tab in tabs if tab is not old]
        settle(lambda: subscribers(server) == 1 and sum(tab.evaluate("reads.size") for tab in others) > 0)
        await_more(others)
        sent = publisher.stop()
    wanted = [{"a.1"}, {"b.1"}, {"a.1", "c"}, {"b.1"}]
    for tab, channels in zip(tabs, wanted, strict=True):
        if tab is old:
            continue
        tab.until(f"seen.at(-1)?.[1] === {sent - 1}")
        for channel in channels:
            tab.until(f"seen.findLast(([channel]) => channel === '{channel}')?.[1] === {sent - 1}")
            all_from_first([number for name, number in tab.evaluate("seen") if name == channel], sent)
        assert {name for name, _ in tab.evaluate("seen")} == channels
    assert subscribers(server) == 1


def test_a_tab_that_is_taken_for_gone_misses_nothing(server: Any, pages: Any) -> None:
    """A leader that gets the lock of a living tab reads without its channels; the tab notices, and joins again."""
    with Publisher(server.url, "a.1", "b.1", "c") as publisher:
        tabs = pages.tabs(3)
        for tab, url in zip(tabs[:2], ["/stream?channel=a.1", "/stream?channel=b.1"], strict=True):
            tab.order(goto=f"{server.url}/health/live")
            tab.evaluate(OPEN % (url, "true"))
            tab.until("seen.length > 10")
        settle(lambda: subscribers(server) == 1)
        leads = leader(tabs[:2])
        taken = leads.evaluate("""navigator.locks.query().then(({ pending }) => Promise.all(
          pending.filter(({ name }) => name.includes(" "))
            .map(({ name }) => navigator.locks.request(name, { steal: true }, () => name))))""")
        assert len(taken) == 1  # of the other tab; the leader waits for it
        tabs[2].order(goto=f"{server.url}/health/live")
        tabs[2].evaluate(OPEN % ("/stream?channel=c", "true"))
        tabs[2].until("seen.length > 10")
        await_more(tabs)
        sent = publisher.stop()
    for tab in tabs:
        tab.until(f"seen.at(-1)?.[1] === {sent - 1}")
        all_from_first(numbers(tab), sent)
    settle(lambda: subscribers(server) == 1)


def test_a_tab_with_an_older_cursor_gets_what_it_lacks(server: Any, pages: Any) -> None:
    """A tab that joins with an older cursor reads from there, and the others get nothing twice.

    When all have closed, no stream is open and no lock is held.
    """
    first = server.publish("0")
    for number in range(1, 5):
        server.publish(str(number))
    one, two = pages.tabs(2)
    for tab in (one, two):
        tab.order(goto=f"{server.url}/health/live")
    one.evaluate(OPEN % ("/channels/news", "true"))
    one.until("source.state === 'open'")
    server.publish("5")
    one.until("seen.length === 1")
    two.evaluate((OPEN % ("/channels/news", "true")).replace("onGap", f'lastEventId: "{first}", onGap'))
    two.until("seen.length === 5")
    server.publish("6")
    two.until("seen.length === 6")
    one.until("seen.length === 2")
    assert (numbers(one), numbers(two)) == ([5, 6], [1, 2, 3, 4, 5, 6])
    assert subscribers(server) == 1
    for tab in (one, two):
        tab.evaluate("source.close()")
    settle(lambda: subscribers(server) == 0)
    one.until("navigator.locks.query().then(({ held, pending }) => held.length + pending.length === 0)")


def test_a_gap_is_told_to_all_that_lack_something(server: Any, pages: Any) -> None:
    """Tabs before and within what is missing hear of it; one that has read past it does not. All get what follows."""
    ids = [server.publish(str(number)) for number in range(10)]
    offset = Position.parse(ids[6]).offset

    async def forget() -> None:
        async with Hub(f"sqlite:///{server.config.with_name('events.db')}") as hub:
            await hub.log.drop({"news": offset})

    server.kill()
    asyncio.run(forget())
    server.start()
    tabs = pages.tabs(4)
    for tab, after in zip(tabs, (ids[8], ids[4], ids[1], ids[1]), strict=True):
        tab.order(goto=f"{server.url}/health/live")
        tab.evaluate((OPEN % ("/channels/news", "true")).replace("onGap", f'lastEventId: "{after}", onGap'))
        tab.until("source.state === 'open' && seen.at(-1)?.[1] === 9")
    server.publish("10")
    for tab, missed, first in zip(tabs, (0, 1, 1, 1), (9, 7, 7, 7), strict=True):
        tab.until("seen.at(-1)?.[1] === 10")
        assert numbers(tab) == list(range(first, 11))
        assert (tab.evaluate("gaps") > 0) == missed
    settle(lambda: subscribers(server) == 1)


def test_ids_of_another_server(server: Any, pages: Any) -> None:
    """Ids that repeat, or go back, leave no event out, as they leave none out of a stream that is not shared."""
    [tab] = pages.tabs(1)
    tab.order(goto=f"{server.url}/health/live")
    tab.evaluate("""import('/newswire.js').then(({ connect }) => {
      let body;
      const stream = new ReadableStream({ start: (controller) => void (body = controller) });
      const head = { headers: { 'content-type': 'text/event-stream' } };
      const push = (text) => body.enqueue(new TextEncoder().encode(text));
      Object.assign(globalThis, { seen: [], push });
      const fetch = async () => new Response(stream, head);
      globalThis.source = connect('/elsewhere', { shared: true, json: false, fetch });
      source.on('*', ({ data }) => seen.push(data));
    })""")
    tab.until("source.state === 'open'")
    blocks = ["id: 5\\ndata: a\\n\\n", "id: 5\\ndata: b\\n\\nid: 5\\ndata: c\\n\\n", "id: 3\\ndata: d\\n\\n",
              "id: 4\\ndata: e\\n\\ndata: f\\n\\n"]  # fmt: skip
    for block in blocks:
        tab.evaluate(f'push("{block}")')
    tab.until("seen.length >= 6")
    assert tab.evaluate("seen.join('')") == "abcdef"
    assert tab.evaluate("source.lastEventId") == "4"


def test_a_tab_that_comes_later_gets_the_state(server: Any, pages: Any) -> None:
    """On channels that have a state, and with `from=earliest`, a tab first gets what a reader without a cursor gets."""
    server.kill()
    server.config.write_text(server.config.read_text() + 'latest = ["prices.*"]\n')
    server.start()
    for number in range(20):
        httpx2.post(f"{server.url}/channels/prices.{number % 4}", content=str(number)).raise_for_status()
    whole = [[f"prices.{number % 4}", number] for number in range(16, 20)]
    tabs = open_tabs(server, pages, "/stream?channel=prices.*", 4)
    for tab in tabs:
        tab.until("seen.length >= 4 && live > 0")
        assert tab.evaluate("seen") == whole
    settle(lambda: subscribers(server) == 1)
    with Publisher(server.url, "prices.1") as publisher:
        await_more(tabs)
        late = pages.tabs(5)[4]
        late.order(goto=f"{server.url}/health/live")
        late.evaluate(OPEN % ("/stream?channel=prices.*", "true"))
        await_more([late])
        settle(lambda: subscribers(server) == 1)
        sent = publisher.stop()
    for tab in tabs:
        tab.until(f"seen.at(-1)?.[1] === {sent - 1}")
        assert tab.evaluate("seen") == [*whole, *(["prices.1", number] for number in range(sent))]
    late.until(f"seen.at(-1)?.[1] === {sent - 1}")
    assert sorted(channel for channel, _ in late.evaluate("seen.slice(0, 4)")) == [f"prices.{n}" for n in range(4)]
    all_from_first([number for channel, number in late.evaluate("seen") if channel == "prices.1"], sent)
    ids = [server.publish(str(number)) for number in range(3)]
    for tab in tabs[:2]:
        tab.evaluate("source.close()")
        tab.evaluate(OPEN % ("/stream?channel=news&from=earliest", "true"))
        tab.until(f"seen.length === {len(ids)}")


def test_each_tab_knows_the_whole_error(server: Any, page: Any) -> None:
    """The answer's headers and body, and what the last attempt failed with, reach those that don't lead too."""
    page.order(goto=f"{server.url}/health/live")
    page.evaluate("""import('/newswire.js').then(({ connect }) => {
      const fetch = async () => new Response("why", { status: 503, headers: { "x-why": "because" } });
      const options = { shared: true, attempts: 2, backoff: { retry: 1, first: 1 }, fetch };
      globalThis.all = [1, 2].map(() => connect("/channels/news", options));
    })""")
    page.until("all.every(({ state }) => state === 'closed')")
    assert page.evaluate("all.map(({ error }) => error.code)") == ["attempts"] * 2
    why = "all.map(({ error: { cause } }) => [cause.code, cause.status, cause.headers.get('x-why'), cause.body])"
    assert page.evaluate(why) == [["status", 503, "because", "why"]] * 2


def test_tabs_of_another_version_are_a_group_of_their_own(server: Any, page: Any) -> None:
    """Tabs from before and after a deployment don't talk: each group has a connection, and every event."""
    page.order(goto=f"{server.url}/health/live")
    page.evaluate("""fetch('/newswire.js').then((answer) => answer.text()).then(async (text) => {
      const next = text.replace(/newswire:\\${[\\w$]+}:/, "newswire:0:");
      globalThis.changed = next !== text;
      const url = URL.createObjectURL(new Blob([next], { type: "text/javascript" }));
      const packages = [await import('/newswire.js'), await import(url)];
      globalThis.tabs = [0, 1, 0, 1].map((version) => {
        const tab = { seen: [], source: packages[version].connect("/channels/news", { shared: true }) };
        tab.source.on("*", ({ data }) => tab.seen.push(data));
        return tab;
      });
    })""")
    assert page.evaluate("changed")
    page.until("tabs.every(({ source }) => source.state === 'open')")
    assert subscribers(server) == 2
    server.publish("1")
    page.until("tabs.every(({ seen }) => seen.length === 1)")
    page.evaluate("tabs.slice(0, 2).forEach(({ source }) => source.close())")  # the two that lead
    server.publish("2")
    page.until("tabs.slice(2).every(({ seen }) => seen.length === 2)")
    assert page.evaluate("tabs.map(({ seen }) => seen.join())") == ["1", "1", "1,2", "1,2"]
    assert subscribers(server) == 2


WORKER = """void (() => {
  const script = `import { connect } from "${location.origin}/newswire.js";
    const source = connect("${location.origin}/channels/news", { shared: true, onState: postMessage });
    source.on("*", ({ data }) => postMessage(data));
    source.closed.catch((error) => postMessage(String(error)));
    onmessage = () => source.close();`;
  globalThis.said = [];
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  globalThis.worker = new Worker(url, { type: "module" });
  worker.onmessage = ({ data }) => said.push(data);
})()"""


def test_a_worker_shares_too(server: Any, page: Any) -> None:
    """A worker that leads reads for its page; when it has gone, the page leads."""
    page.order(goto=f"{server.url}/health/live")
    page.evaluate(WORKER)
    page.until("said.length === 1")
    assert page.evaluate("said") == ["open"]
    page.evaluate(OPEN % ("/channels/news", "true"))
    page.until("source.state === 'open'")
    assert subscribers(server) == 1
    assert page.evaluate("fetches") == 0
    server.publish("1")
    page.until("seen.length === 1 && said.length === 2")
    page.evaluate("worker.postMessage('close')")
    page.until("reads.size === 1 && said.at(-1) === 'closed'")
    server.publish("2")
    page.until("seen.length === 2")
    assert page.evaluate("seen") == [[None, 1], [None, 2]]


FRAME = """void (() => {
  const script = `import { connect } from "${location.origin}/newswire.js";
    const frames = new TextEncoder().encode("id: 1\\\\ndata: 1\\\\n\\\\n");
    const body = new ReadableStream({ start: (stream) => stream.enqueue(frames) });
    const fetch = async () => new Response(body, { headers: { "content-type": "text/event-stream" } });
    const source = connect("/channels/news", { shared: true, fetch });
    source.on("*", ({ data }) => parent.postMessage(data, "*"));
    source.closed.catch((error) => parent.postMessage(String(error), "*"));`;
  globalThis.said = [];
  addEventListener("message", ({ data }) => said.push(data));
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.srcdoc = "<!doctype html><script type=module>" + script + "<" + "/script>";
  document.body.append(frame);
})()"""


def test_a_frame_without_rights_has_its_own(server: Any, page: Any) -> None:
    """In a sandboxed frame there are locks, but they are refused. There, `shared` changes nothing."""
    page.order(goto=f"{server.url}/health/live")
    page.evaluate(FRAME)
    page.until("said.length === 1")
    assert page.evaluate("said") == [1]


def test_without_locks_each_tab_has_its_own(server: Any, pages: Any) -> None:
    """The browser gives no locks to plain-http addresses of a network. There, `shared` changes nothing."""
    server.kill()
    server.config.write_text(server.config.read_text() + 'allowed_hosts = ["plain.test"]\n')
    server.start()
    tabs = pages.tabs(2)
    for tab in tabs:
        tab.order(goto=f"http://plain.test:{server.port}/health/live")
        assert tab.evaluate("[isSecureContext, navigator.locks ?? null]") == [False, None]
        tab.evaluate(OPEN % ("/channels/news", "true"))
        tab.until("source.state === 'open'")
    assert subscribers(server) == 2
    with Publisher(server.url, "news") as publisher:
        await_more(tabs)
        tabs[0].order(close=True)
        await_more(tabs[1:])
        sent = publisher.stop()
    tabs[1].until(f"seen.at(-1)?.[1] === {sent - 1}")
    all_from_first(numbers(tabs[1]), sent)
