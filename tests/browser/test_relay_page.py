"""A web page of one origin that uses a relay of another: it asks, reads on at `Content-Location`, and stops."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.serve import Serve
from tests.fixtures.upstream import Call, Upstream

pytestmark = [pytest.mark.browser, pytest.mark.anyio]

# Headers that need leave: of authorization, of a client of an AI service, and of the resuming.
ASK = """(async () => {
  const relay = "%s";
  const headers = { Authorization: "Bearer key", "Content-Type": "application/json", "X-Stainless-Lang": "js" };
  const body = JSON.stringify({ model: "m", messages: [], stream: true });
  const asked = await fetch(`${relay}/v1/chat/completions`, { method: "POST", headers, body });
  const reader = asked.body.pipeThrough(new TextDecoderStream()).getReader();
  let block = "";
  while (!block.includes("\\n\\n")) block += (await reader.read()).value;
  const place = relay + asked.headers.get("content-location");
  const id = /^id: ?(.*)$/m.exec(block)[1];
  const resumed = await fetch(place, { headers: { ...headers, "Last-Event-ID": id } });
  const stopped = await (await fetch(place, { method: "DELETE", headers })).json();
  const rest = await resumed.text();
  const passed = await fetch(`${relay}/v1/models`, { headers });
  return [asked.status, block.includes("one"), stopped.stopped, rest.includes("stopped"), await passed.text()];
})()"""


async def test_a_page_of_another_origin(tmp_path: Path, page: Any) -> None:
    """A browser lets it do all that where its origin is configured, and nothing where it is not."""

    async def script(call: Call) -> None:
        if call.target == "/page":
            await call.answer(200, b"<!doctype html>", content_type="text/html")
        elif call.target == "/v1/models":
            await call.answer(200, b"passed on")
        else:
            await call.head()
            await call.chunk("one")
            await call.gone.wait()

    async with Upstream(script) as upstream:
        other = upstream.url.replace("127.0.0.1", "localhost")
        flags = ("--upstream", upstream.url)
        (tmp_path / "closed").mkdir()
        with (
            Serve(tmp_path, *flags, "--cors-origin", upstream.url, command="relay") as relay,
            Serve(tmp_path / "closed", *flags, "--cors-origin", other, command="relay") as closed,
        ):
            await asyncio.to_thread(page.order, goto=f"{upstream.url}/page")
            assert await asyncio.to_thread(page.evaluate, ASK % relay.url) == [200, True, True, True, "passed on"]
            calls = len(upstream.calls)
            refused = f"fetch('{closed.url}/v1/chat/completions', {{ method: 'POST' }}).catch((error) => error.name)"
            assert await asyncio.to_thread(page.evaluate, refused) == "TypeError"
            assert len(upstream.calls) == calls
