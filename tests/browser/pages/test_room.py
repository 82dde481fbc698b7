"""The room's page in Chromium: every message once and in order, and the members, through refreshes and a kill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from tests.browser.pages.conftest import LIVE, App, strange

pytestmark = pytest.mark.browser
SAID = "[...document.querySelectorAll('#messages li:not(.pending) p')].map(each => each.textContent)"
HERE = "[...document.querySelectorAll('#here li span:last-child')].map(each => each.textContent).join()"
ADA = {"member": "a", "name": "Ada"}


def come(tab: Any, url: str, name: str = "Ada") -> None:
    """Open the page as somebody with a name."""
    tab.order(goto=f"{url}/newswire.svg")
    tab.evaluate(f"localStorage.setItem('room.me', JSON.stringify({{ member: '{name.lower()}', name: '{name}' }}))")
    tab.order(goto=url)
    tab.until(LIVE)


def say(tab: Any, *texts: str) -> None:
    """Say something by the keyboard."""
    tab.evaluate("document.getElementById('text').focus()")
    for text in texts:
        tab.order(type=text)
        tab.order(press="Enter")


def test_two_people(app: Callable[[str], App], page: Any, another: Any) -> None:
    """Both see both, and what both say; a second tab is no new member; a name can change; a closed page is a leave."""
    url = app("room").url
    come(page, url)
    come(another, url, "Grace")
    page.until(f"{HERE} === 'Ada (you),Grace'")
    another.until(f"{HERE} === 'Ada,Grace (you)'")
    say(page, "Is <b>anybody</b> here?")
    another.until(f"{SAID}.length === 1")
    say(another, "I am.")
    for tab in (page, another):
        tab.until(f"{SAID}.length === 2")
        assert tab.evaluate(SAID) == ["Is <b>anybody</b> here?", "I am."]
    second = page.second()
    second.order(goto=url)
    second.until(f"{SAID}.length === 2 && {HERE} === 'Ada (you),Grace'")
    another.evaluate("document.getElementById('name').select()")
    another.order(type="Hopper")
    another.order(press="Enter")
    page.until(f"{HERE} === 'Ada (you),Hopper'")
    another.order(goto="about:blank")
    page.until(f"{HERE} === 'Ada (you)'")
    for tab in (page, another):
        assert tab.errors == tab.console == []


@pytest.mark.slow
def test_a_new_name(app: Callable[[str], App], page: Any) -> None:
    """All tabs of a member have its new name, and one stream; the name outlives a server that was away."""
    server = app("room")
    come(page, server.url)
    second = page.second()
    second.order(goto=server.url)
    second.until(f"{LIVE} && {HERE} === 'Ada (you)'")
    page.evaluate("document.getElementById('name').select()")
    page.order(type="Hopper")
    page.order(press="Enter")
    second.until(f"{HERE} === 'Hopper (you)' && document.getElementById('name').value === 'Hopper'")
    third = page.tabs(3)[2]
    third.order(goto=server.url)
    third.until(f"{LIVE} && {HERE} === 'Hopper (you)'")
    groups = "navigator.locks.query().then(({ held }) => held.filter(({ name }) => !name.includes(' ')).length)"
    assert page.evaluate(groups) == 1
    server.kill()
    for tab in (page, second, third):
        tab.until(f"!({LIVE})")
    for log in server.folder.glob("room.db*"):
        log.unlink()  # so that no member is there any more
    server.start()
    for tab in (page, second, third):
        tab.until(f"{LIVE} && {HERE} === 'Hopper (you)'")


def test_a_kill(app: Callable[[str], App], page: Any) -> None:
    """Messages sent while the server is dead arrive when it is back, once and in order; the member is still there."""
    server = app("room")
    come(page, server.url)
    say(page, "one")
    page.until(f"{SAID}.length === 1")
    server.kill()
    page.until(f"!({LIVE})")
    say(page, "two", "three")
    page.until("document.querySelector('#messages .pending')?.textContent === 'two'")
    server.start()
    page.until(f"{LIVE} && {SAID}.length === 3")
    page.order(reload=True)
    page.until(f"{SAID}.length === 3 && {HERE} === 'Ada (you)'")
    assert page.evaluate(SAID) == ["one", "two", "three"]
    assert page.errors == strange(page) == []


def test_bad_requests(app: Callable[[str], App]) -> None:
    """The answer names what is wrong; a key publishes once."""
    url = f"{app('room').url}/rooms/tea"
    for bad, word in (({"text": ""}, "text"), ({"text": "x" * 1001}, "text"), ({"text": "x", "name": 3}, "name")):
        answer = httpx2.post(url, json={**ADA, **bad})
        assert answer.status_code == 400
        assert word in answer.text
    for content in (b"{", b"\xff", b"[1]", b"3"):
        assert httpx2.post(url, content=content).status_code == 400
    for member, name in (({"member": "a"}, {}), ({}, {"x-name": "Ada"}), ({"member": "a"}, {"x-name": "%20"})):
        assert httpx2.get(url, params=member, headers=name).status_code == 400
    for _ in range(2):
        assert httpx2.post(url, json={**ADA, "text": "once"}, headers={"idempotency-key": "1"}).status_code == 204
    with httpx2.stream("GET", url, params={"member": "a"}, headers={"x-name": "Ada"}, timeout=20) as answer:
        text = ""
        for chunk in answer.iter_text():
            text += chunk
            if "newswire.live" in text:
                break
    assert text.count('"text":"once"') == 1
