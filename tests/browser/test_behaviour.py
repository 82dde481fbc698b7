"""Five clients in Chromium under the same troubles, as rows of the table in docs/browser.md, which this fills."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from newswire.testing import Answer, BadServer, Seen

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

CLIENTS = ["newswire", "the browser's own", "eventsource", "fetch-event-source", "eventsource-client"]
PATIENCE = 7.0  # seconds; the slowest reconnects after 5
FAST = b"retry: 100\n"
FORMAT = (
    b"\xef\xbb\xbf:comment\ndata: 1\r\rdata\ndata\n\nid: a\0b\ndata:2\r\n\r\nid: 3\ndata:  x\nfoo: bar\nevent: a\n\n"
    b"event: a\n\ndata\n\nid\ndata: \xe2\x82\xac\ndata\n\ndata: unfinished\n"
)
FORMATTED = [
    ["message", "1", ""], ["message", "\n", ""], ["message", "2", ""], ["a", " x", "3"], ["message", "", "3"],
    ["message", "€\n", ""],
]  # fmt: skip


@dataclass
class Case:
    """What one client did.

    Attributes:
        requests: that came, each with the time.
        heard: what the client reported.
        over: whether the patience is at its end: what has not happened did not.
    """

    requests: list[tuple[Seen, float]] = field(default_factory=list)
    heard: list[list[Any]] = field(default_factory=list)
    over: bool = False

    @property
    def events(self) -> list[list[Any]]:
        return [one[1:] for one in self.heard if one[0] == "event"]

    @property
    def texts(self) -> list[str]:
        return [text for _, text, _ in self.events]

    def gap(self) -> float:
        """Seconds between the first two requests."""
        return self.requests[1][1] - self.requests[0][1]

    def once(self) -> bool:
        """Whether there was one request, after all that time."""
        return self.over and len(self.requests) == 1

    def cursor(self) -> bytes | None:
        """Of the second request."""
        return self.requests[1][0].headers.get("last-event-id") if len(self.requests) > 1 else None


@dataclass
class Behaviour:
    """One row: the answers in order (the last one again and again), and what is to come of them."""

    name: str
    answers: list[Answer]
    good: Callable[[Case], bool]
    options: str = "{}"
    then: str = ""  # run in the page a second later


def event(id: int, *, end: Any = "close", head: bytes = FAST) -> Answer:
    """A stream of one event."""
    # A reset at once would take the data with it.
    return Answer([head + b"id: %d\ndata: %d\n\n" % (id, id)], end=end, pace=0.3 if end == "reset" else 0)


QUIET = Answer(b":\n", end="hang")
POST = '{ body: "why?", headers: () => ({ "content-type": "text/plain" }) }'
HIDE = """for (const hidden of [true, false]) {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  Object.defineProperty(document, "visibilityState", { value: hidden ? "hidden" : "visible", configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
BEHAVIOURS = [
    Behaviour("reads the whole wire format", [Answer(FORMAT, end="hang")], lambda case: case.events == FORMATTED),
    Behaviour(
        "goes on after the last event when the stream breaks",
        [event(1, end="reset"), event(2, end="hang")],
        lambda case: case.cursor() == b"1" and case.texts == ["1", "2"],
    ),
    Behaviour(
        "takes an `id:` without data for its cursor",
        [Answer(FAST + b"id: 7\n\n"), QUIET],
        lambda case: case.cursor() == b"7",
    ),
    Behaviour(
        "goes on after a 502 in the middle",
        [event(1), Answer(status=502), event(2, end="hang")],
        lambda case: case.texts == ["1", "2"],
    ),
    Behaviour(
        "goes on after a refused connection",
        [event(1), Answer(status=0, end="reset"), event(2, end="hang")],
        lambda case: case.texts == ["1", "2"],
    ),
    Behaviour(
        "comes back after 503, when `Retry-After` says",
        [Answer(status=503, headers={"retry-after": "4"}), event(1, end="hang")],
        lambda case: case.texts == ["1"] and case.gap() >= 4,
    ),
    Behaviour(
        "waits as long as `retry:` says",
        [event(1, head=b"retry: 4500\n"), QUIET],
        lambda case: len(case.requests) == 2 and case.gap() >= 4.5,
    ),
    Behaviour("stops at 204", [event(1), Answer(status=204)], lambda case: case.over and len(case.requests) == 2),
    Behaviour(
        "stops at 404, and reports the status",
        [Answer(status=404, headers={"content-type": "text/plain"})],
        lambda case: case.once() and ["closed", 404] in case.heard,
    ),
    Behaviour(
        "stops at another content type",
        [Answer(b"<p>", headers={"content-type": "text/html"})],
        lambda case: case.once() and any(one[0] == "closed" for one in case.heard),
    ),
    Behaviour(
        "tells an event of the type `error` from a failure",
        [Answer(b"event: error\ndata: x\n\n", end="hang")],
        lambda case: case.over and case.events == [["error", "x", ""]] and ["error"] not in case.heard,
    ),
    Behaviour(
        "sends headers of yours",
        [QUIET],
        lambda case: bool(case.requests) and case.requests[0][0].headers.get("x-token") == b"1",
        "{ headers: count() }",
    ),
    Behaviour(
        "asks for them before each attempt",
        [event(1), QUIET],
        lambda case: len(case.requests) > 1 and case.requests[1][0].headers.get("x-token") == b"2",
        "{ headers: count() }",
    ),
    Behaviour(
        "sends no POST twice",
        [Answer([b"data: 1\n\n"], end="reset", pace=0.3)],
        lambda case: case.once() and case.requests[0][0].method == "POST",
        POST,
    ),
    Behaviour(
        "goes on with GET where the answer to its POST is",
        [
            Answer([FAST + b"id: 1\ndata: 1\n\n"], headers={"content-location": "?at=7"}, end="reset", pace=0.3),
            event(2, end="hang"),
        ],
        lambda case: case.texts == ["1", "2"]
        and case.requests[1][0].method == "GET"
        and case.requests[1][0].target.endswith("?at=7"),
        POST,
    ),
    Behaviour(
        "notices a connection that died in silence",
        [Answer(b": heartbeat 0.5\n" + FAST + b"id: 1\ndata: 1\n\n", end="hang"), event(2, end="hang")],
        lambda case: case.texts == ["1", "2"],
    ),
    Behaviour(
        "keeps a quiet stream that has heartbeats",
        [Answer([b": heartbeat 0.5\nid: 1\ndata: 1\n\n", *[b":\n"] * 30], pace=0.4, end="hang")],
        lambda case: case.once(),
    ),
    Behaviour(
        "keeps its request when the tab is hidden and seen again",
        [QUIET],
        lambda case: case.once(),
        POST,
        HIDE,
    ),
]  # fmt: skip


class Row:
    """A server, with a page and a case for each client."""

    def __init__(self, behaviour: Behaviour, script: bytes) -> None:
        self.behaviour = behaviour
        self.cases = {client: Case() for client in CLIENTS}
        self._script = script
        self._lock = threading.Lock()
        self.server = BadServer(self._answer)

    def _answer(self, request: Seen) -> Answer:
        path = request.target.partition("?")[0]
        if path == "/clients.js":
            return Answer(self._script, headers={"content-type": "text/javascript"})
        if not path.startswith("/client/"):
            return Answer(b"<!doctype html>", headers={"content-type": "text/html"})
        case = self.cases[CLIENTS[int(path.removeprefix("/client/"))]]
        with self._lock:
            case.requests.append((request, time.monotonic()))
            number = len(case.requests) - 1
        answers = self.behaviour.answers
        return answers[min(number, len(answers) - 1)]

    def open(self, tab: Any) -> None:
        """Start all clients."""
        self.tab = tab
        tab.order(goto=self.server.url.removesuffix("events"))
        tab.evaluate(f"""import('/clients.js').then(({{ clients }}) => {{
          globalThis.heard = [];
          const count = () => {{ let calls = 0; return () => ({{ "x-token": String(++calls) }}); }};
          globalThis.open = {CLIENTS!r}.map((name, n) => {{
            const own = heard[n] = [];
            return clients[name](`/client/${{n}}`, {self.behaviour.options}, (...what) => own.push(what));
          }});
          setTimeout(() => {{ {self.behaviour.then} }}, 1000);
        }})""")

    def look(self, *, over: bool = False) -> None:
        """Ask the page what its clients have heard."""
        for case, heard in zip(self.cases.values(), self.tab.evaluate("heard"), strict=True):
            case.heard, case.over = heard, over

    def results(self) -> list[str]:
        return [
            "–" if not case.requests else "yes" if self.behaviour.good(case) else "no" for case in self.cases.values()
        ]


@pytest.fixture(scope="module")
def script(bundle: Callable[[str], bytes]) -> bytes:
    """All clients in one file for a browser."""
    return bundle("clients.js")


def test_the_table_of_behaviours(page: Any, script: bytes, fill: Callable[[str, str], None]) -> None:
    """newswire's client has them all; the page shows what the others do."""
    with ExitStack() as stack:
        rows = [Row(behaviour, script) for behaviour in BEHAVIOURS]
        for row, tab in zip(rows, page.tabs(len(rows)), strict=True):
            stack.enter_context(row.server)
            row.open(tab)
        deadline = time.monotonic() + PATIENCE
        threading.Event().wait(PATIENCE)  # a row may say that something does not happen: it needs the time
        assert time.monotonic() >= deadline
        for row in rows:
            row.look(over=True)
        results = {row.behaviour.name: row.results() for row in rows}
    missing = [name for name, (ours, *_) in results.items() if ours != "yes"]
    assert not missing, [(row.behaviour.name, row.cases["newswire"]) for row in rows if row.behaviour.name in missing]
    fill("behaviour", table(results))


def table(results: dict[str, list[str]]) -> str:
    """As Markdown."""
    head = "| | " + " | ".join(
        f"`{name}`" if "-" in name or name in ("newswire", "eventsource") else name for name in CLIENTS
    )
    lines = [head + " |", "| --- " * (len(CLIENTS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(result) + " |" for name, result in results.items()]
    return "\n".join(lines)
