"""Channels with a state, held-back streams and contracts of `newswire serve`, over HTTP."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.serve import Serve, run_newswire

from newswire.wire import Decoder, Event

pytestmark = pytest.mark.slow


def read(url: str, until: str, after: str | None = None) -> list[Event]:
    """The events of a stream, through the first of a type."""
    decoder, found = Decoder(), list[Event]()
    headers = {"last-event-id": after} if after else {}
    with httpx2.stream("GET", url, headers=headers, timeout=20) as answer:
        assert answer.status_code == 200, answer.read()
        for data in answer.iter_raw():
            found += decoder.feed(data)
            if any(event.event == until or event.data == until for event in found):
                return found
    raise AssertionError(found)


def test_a_state_over_http(tmp_path: Path) -> None:
    """A reader gets each key once, then the marker; it resumes by Last-Event-ID; it may ask for a rate and a wait."""
    with Serve(tmp_path, "--latest", "prices.*") as server:
        for value in range(20):
            for key in ("A", "B"):
                httpx2.post(f"{server.url}/channels/prices.{key}", content=f"{key}{value}").raise_for_status()
        *state, marker = read(f"{server.url}/stream?channel=prices.*", "newswire.live")
        assert [event.data for event in state] == ["A19", "B19"]
        assert marker.id == state[-1].id
        httpx2.post(f"{server.url}/channels/prices.A", content="A20")
        again = read(f"{server.url}/channels/prices.*?max_rate=5", "newswire.live", after=marker.id)
        assert [event.data for event in again[:-1]] == ["A20"]
        began = time.monotonic()
        live = read(f"{server.url}/channels/prices.A?from=earliest&live=1&coalesce=0.05", "newswire.live")
        assert [event.data for event in live[:-1]] == ["A20"]
        assert time.monotonic() - began < 5
        for query, says in (
            ("max_rate=x", "max_rate is a number"),
            ("coalesce=999", "0 to 60"),
            ("live=yes", "'0' or '1'"),
        ):
            answer = httpx2.get(f"{server.url}/channels/prices.A?{query}")
            assert answer.status_code == 400
            assert says in answer.json()["detail"]
        assert "have a state" in httpx2.get(f"{server.url}/channels/news?max_rate=1").json()["detail"]


def test_a_contract_of_the_server(tmp_path: Path) -> None:
    """It is found in the folder where the server runs; what it does not allow is a 422; a wrong name ends the start."""
    (tmp_path / "shop.py").write_text(
        'from newswire.contract import Contract\nevents = Contract("shop", {"count": int})\n'
    )
    with Serve(tmp_path, "--contract", "shop:events") as server:
        good = httpx2.post(f"{server.url}/channels/n?event=count", content="1")
        bad = httpx2.post(f"{server.url}/channels/n?event=count", content='"x"')
    assert good.status_code == 200
    assert (bad.status_code, bad.json()["field"]) == (422, "data")
    wrong = run_newswire("serve", "--port", "0", "--contract", "shop:event", folder=tmp_path)
    assert wrong.returncode != 0
    assert b"module 'shop' has no 'event'; it has events" in wrong.stderr
    assert b"Traceback" not in wrong.stderr
