"""The web platform's own tests of EventSource (WPT, `eventsource/`), on the browser's class and on newswire's.

The cases are written in our own words, under the names of WPT's files. The browser's class passes all of them, which
proves the cases. newswire's passes those that a client above `fetch` can pass; `WHY_NOT` lists the others.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from newswire.testing import Answer, BadServer, Seen

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

SCRIPTS = {
    "/newswire.js": files("newswire.browser").joinpath("newswire.js").read_bytes(),
    "/wpt.js": Path(__file__).with_name("wpt.js").read_bytes(),
}
NAMES = "['streams', 'scripts'].flatMap((kind) => Object.keys(wpt[kind]).map((name) => [kind, name]))"
# Whether a case is true of each class.
TRY = """(async () => {
  const results = [];
  for (const Class of classes) {
    const one = wpt.%s["%s"];
    if (typeof one === "function") results.push((await one(Class).catch(String)) === true);
    else results.push(JSON.stringify(await wpt.events(Class, wpt.stream(one[0]))) === JSON.stringify(one[1]));
  }
  return results;
})()"""
WHY_NOT = {
    "eventsource-onmessage-trusted": "only the browser itself can dispatch trusted events",
    "request-status-error-5xx": "on purpose: a 5xx may pass, so another attempt follows",
}


def answer(request: Seen, counts: dict[str, int]) -> Answer:
    """What the query asks for; `again` is what later requests with the same key get."""
    url = urlsplit(request.target)
    query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    if url.path in SCRIPTS:
        return Answer(
            SCRIPTS[url.path], headers={"content-type": "text/javascript", "access-control-allow-origin": "*"}
        )
    if url.path != "/s":
        return Answer(b"<!doctype html>", headers={"content-type": "text/html"})
    number = counts[query["key"]] = counts.get(query["key"], 0) + 1
    body = query["again"] if number > 1 and "again" in query else query["body"]
    body = body.replace("LAST", request.headers.get("last-event-id", b"").decode())
    if "HEADER " in body:
        name = body.partition("HEADER ")[2].strip()
        body = body.replace(f"HEADER {name}", request.headers.get(name, b"").decode())
    headers = {"content-type": query.get("mime", "text/event-stream")}
    if "to" in query:
        headers["location"] = quote(query["to"], safe=":/?&=%")
    if "cors" in query:
        headers["access-control-allow-origin"] = query["cors"]
    return Answer(body.encode(), status=int(query.get("status", "200")), headers=headers)


def test_the_table_of_wpt(page: Any, fill: Callable[[str, str], None]) -> None:
    """The browser's class passes every case; newswire's passes all but those with a reason."""
    counts: dict[str, int] = {}
    with BadServer(lambda request: answer(request, counts)) as server:
        page.order(goto=server.url.removesuffix("events"))
        page.evaluate("""Promise.all([import('/wpt.js'), import('/newswire.js')]).then(([wpt, newswire]) => {
          globalThis.wpt = wpt; globalThis.classes = [EventSource, newswire.EventSource];
        })""")
        rows = [(name, *page.evaluate(TRY % (kind, name))) for kind, name in page.evaluate(NAMES)]
    assert [name for name, native, _ in rows if not native] == []
    assert {name for name, _, ours in rows if not ours} == set(WHY_NOT)
    lines = ["| WPT | newswire's class | |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {'yes' if ours else 'no'} | {WHY_NOT.get(name, '')} |" for name, _, ours in sorted(rows)]
    fill("wpt", "\n".join(lines))
