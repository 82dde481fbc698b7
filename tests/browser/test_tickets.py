"""Stream tickets in a real Chromium: its EventSource's own reconnects go on, and no second client gets in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.browser.conftest import Page
from tests.docs.test_docs import ROOT, blocks
from tests.fixtures.ports import free_port
from tests.fixtures.serve import Serve
from tests.server.auth.conftest import SECRET, bearer, publish

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

OPEN = """new Promise((done) => {
  globalThis.events = []; globalThis.opens = 0; globalThis.statuses = [];
  globalThis.source = new EventSource("%s");
  source.onmessage = ({ data }) => events.push(data);
  source.onerror = () => { statuses.push(source.readyState); done("error"); };
  source.onopen = () => { opens++; done("open"); };
})"""


def ticket(server: Serve) -> str:
    """A ticket of ada's for one room."""
    made = httpx2.post(f"{server.url}/tickets", json={"channels": ["room.1"]}, headers=bearer("ada", subscribe=[">"]))
    return str(made.json()["ticket"])


def end_streams(server: Serve) -> None:
    """End ada's streams; their clients may come back."""
    admin = bearer("root", admin=True)
    assert httpx2.delete(f"{server.url}/connections?subject=ada&again=true", headers=admin).status_code == 200


def survives(server: Serve, page: Any, url: str) -> None:
    """Three reconnects, each with what was published meanwhile; copies of the URL are refused all the while."""
    assert page.evaluate(OPEN % url) == "open"
    for number in range(1, 4):
        end_streams(server)
        publish(server, "room.1", f"event {number}")
        page.until(f"opens === {number + 1}")
        page.until(f"events.length === {number}")
        assert httpx2.get(url).json()["reason"] == "used"
    assert page.evaluate("events") == ["event 1", "event 2", "event 3"]
    assert page.evaluate("source.readyState") == 1


def test_three_reconnects_of_a_page_of_the_server(tmp_path: Path, page: Any) -> None:
    """By the cookie, which no script can read; a second browser with the same URL is refused."""
    with Serve(tmp_path, "--jwt-secret", SECRET, "--retry", "50") as server:
        page.order(goto=f"{server.url}/health/live")
        url = f"{server.url}/channels/room.1?ticket={ticket(server)}"
        survives(server, page, url)
        assert page.evaluate("document.cookie") == ""
        second = Page()
        try:
            second.order(goto=f"{server.url}/health/live")
            assert second.evaluate(OPEN % url) == "error"
            assert second.evaluate("statuses") == [2]
        finally:
            second.close()
        assert page.evaluate("source.readyState") == 1


def test_three_reconnects_of_a_page_of_another_site(tmp_path: Path, page: Any) -> None:
    """Where no cookie comes: by the lease, and a script of the same page can't use the URL again from the beginning."""
    app = free_port()
    flags = ("--jwt-secret", SECRET, "--retry", "50", "--cors-origin", f"http://localhost:{app}")
    (tmp_path / "app").mkdir()
    with Serve(tmp_path, *flags) as server, Serve(tmp_path / "app", port=app):
        page.order(goto=f"http://localhost:{app}/health/live")
        url = f"{server.url}/channels/room.1?ticket={ticket(server)}"
        survives(server, page, url)
        assert page.evaluate(f"fetch('{url}').then((answer) => answer.status)") == 401
        second = Page()
        try:
            second.order(goto=f"http://localhost:{app}/health/live")
            assert second.evaluate(OPEN % url) == "error"
        finally:
            second.close()
        assert page.evaluate("source.readyState") == 1


def test_a_revoked_page_stays_away(tmp_path: Path, page: Any) -> None:
    """Its stream ends, its reconnect is refused, and EventSource closes for good."""
    with Serve(tmp_path, "--jwt-secret", SECRET, "--retry", "50") as server:
        page.order(goto=f"{server.url}/health/live")
        assert page.evaluate(OPEN % f"{server.url}/channels/room.1?ticket={ticket(server)}") == "open"
        revoked = httpx2.post(f"{server.url}/revoke", json={"subject": "ada"}, headers=bearer("root", admin=True))
        assert revoked.status_code == 200
        page.until("source.readyState === 2")
        assert page.evaluate("[opens, statuses]") == [1, [0, 2]]


def test_the_javascript_of_the_page(tmp_path: Path, page: Any) -> None:
    """docs/auth.md: a token for a ticket, and the ticket for a stream."""
    [block] = blocks(ROOT / "docs" / "auth.md", "js")
    token = bearer("ada", subscribe=["room.*"])["authorization"].removeprefix("Bearer ")
    with Serve(tmp_path, "--jwt-secret", SECRET, "--retry", "50") as server:
        page.order(goto=f"{server.url}/health/live")
        opened = "await new Promise((done) => { source.onopen = done; }); globalThis.source = source;"
        page.evaluate(f"(async () => {{ const token = '{token}'; {block}\n{opened} }})()")
        page.evaluate("source.onmessage = ({data}) => { globalThis.got = data; }")
        publish(server, "room.1", "It works")
        page.until("globalThis.got === 'It works'")
