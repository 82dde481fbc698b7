"""What single checks find."""

from __future__ import annotations

import pytest

from newswire.doctor.checks import _retries, cors, ids, wire
from newswire.doctor.watch import Block, Watched


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (["3000"], []),
        (["9" * 5000], ["retry-long"]),
        (["3600000", "0003600000"], []),
        (["3600001"], ["retry-long"]),
        (["1000500"], []),
        (["499"], ["retry-storm"]),
        (["0" * 5000 + "10"], ["retry-storm"]),
        (["", "-1", "x" * 5000], ["bad-retry"]),
        (["3000", "\u0663", "0"], ["bad-retry", "retry-storm"]),
        ([], ["retry-none"]),
    ],
)
def test_retry(values: list[str], codes: list[str]) -> None:
    """Any digits are a number, however many."""
    found = _retries([Block([f"retry: {value}" for value in values], 0.0)])
    assert [each.code for each in found] == codes
    assert all(len(each.what) < 80 for each in found)


def got(body: bytes, *, ended: bool = False) -> Watched:
    return Watched(status=200, chunks=[(0.1, body)], seconds=9.0, ended=ended)


EVENTS = "retry: 2000\n\nid: 1\ndata: caf\xe9\n\n"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (EVENTS.encode("utf-16"), "the body is UTF-16"),
        (EVENTS.encode("utf-16-be"), "the body is UTF-16-BE"),
        (EVENTS.encode("utf-32-le"), "the body is UTF-32-LE"),
        (b": hello\n\ndata: x\n\n".decode().encode("utf-16-le"), "the body is UTF-16-LE"),
        (EVENTS.encode("latin-1"), "the bytes at 28 are no UTF-8: b'\\xe9\\n\\n'"),
    ],
)
def test_a_body_that_is_not_utf8_is_named(body: bytes, what: str) -> None:
    """Also if it is the last character; and no line of UTF-16 is called unknown."""
    [found] = wire(got(body))
    assert found.code == "not-utf8"
    assert found.what.startswith(what)


def test_a_character_that_is_not_whole_yet_is_fine() -> None:
    """Until the stream ends."""
    body = b"retry: 2000\n\ndata: x\n\n: " + "\u20ac".encode()[:2]
    assert list(wire(got(body))) == []
    assert [each.code for each in wire(got(body, ended=True))] == ["not-utf8"]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"id: 1\ndata: a\nid: 2\ndata: b\n\n", "one event has 2 lines of id:"),
        (b"event: a\ndata: a\nevent: b\ndata: b\n\n", "one event has 2 lines of event:"),
        (b"id: 1\\ndata: a\\n\\n", "a line 'id: 1"),
        (b"data: a\ndata: b\n", "2 data lines came, and no blank line after that"),
    ],
)
def test_events_without_an_end_are_named(body: bytes, what: str) -> None:
    """No blank line at all, or too few."""
    [found] = wire(got(b"retry: 2000\n\n" + body))
    assert found.code == "never-dispatched"
    assert found.what.startswith(what)


@pytest.mark.parametrize(
    ("name", "fine"), [("a b", True), ("caf\xe9", True), ("1 ", False), ("\t1", False), ("\x011", False)]
)
def test_ids_come_back_in_a_header(name: str, fine: bool) -> None:
    """Spaces at the ends are cut off there, and control characters refused."""
    found = [each.code for each in ids(got(f"id: {name}\ndata: x\n\n".encode()))]
    assert found == ([] if fine else ["id-unsafe"])


@pytest.mark.parametrize(
    ("allowed", "credentials", "origin", "cookies", "codes"),
    [
        (None, None, None, False, []),
        ("*", None, None, False, []),
        ("*", "true", None, False, ["cors-credentials"]),
        ("*, *", None, None, False, ["cors"]),
        ("https://a, https://b", None, "https://a", False, ["cors"]),
        (None, None, "https://a", False, ["cors"]),
        ("*", None, "https://a", False, []),
        ("*", None, "https://a", True, ["cors-credentials"]),
        ("https://a", None, "https://a", True, ["cors-credentials"]),
        ("https://a", "true", "https://a", True, []),
    ],
)
def test_pages_of_other_origins(
    allowed: str | None, credentials: str | None, origin: str | None, cookies: bool, codes: list[str]
) -> None:
    """One origin, sent once; with cookies, its name and a word that allows them."""
    headers = {"access-control-allow-origin": allowed, "access-control-allow-credentials": credentials}
    seen = Watched(status=200, headers={name: value for name, value in headers.items() if value is not None})
    assert [each.code for each in cors(seen, origin, cookies=cookies)] == codes
