"""How fast one publisher may publish, and how many streams one client may have."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from tests.fixtures.serve import Reader, Serve
from tests.server.auth.conftest import SECRET, bearer

from newswire.delivery.problem import Problem
from newswire.server.policy import Rates


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def too_fast(rates: Rates, name: str) -> int | None:
    """For how long a publisher has to wait; None: not at all."""
    try:
        rates.check(name)
    except Problem as problem:
        return int(problem.headers["retry-after"])
    return None


def test_a_bucket_holds_one_second() -> None:
    """The rate can be kept for ever, and a burst of one second; each has its own."""
    clock = Clock()
    rates = Rates(10, clock)
    for _ in range(10):
        assert too_fast(rates, "a") is None
        rates.took("a", 1)
    assert too_fast(rates, "a") is not None
    assert too_fast(rates, "b") is None
    for _ in range(100):
        clock.now += 0.1001
        assert too_fast(rates, "a") is None
        rates.took("a", 1)


def test_a_batch_makes_a_debt() -> None:
    """It goes whole, and the next one waits for all of it; the time is drawn."""
    clock = Clock()
    rates = Rates(10, clock)
    rates.took("a", 100)
    assert {too_fast(rates, "a") for _ in range(50)} == {11, 12}
    clock.now += 9.11
    assert too_fast(rates, "a") is None


def test_buckets_that_are_full_are_forgotten() -> None:
    """A million publishers that were seen once cost nothing."""
    clock = Clock()
    rates = Rates(10, clock)
    for number in range(100_000):
        clock.now += 0.001
        rates.took(f"{number}", 1)
    assert len(rates._full_at) <= 10_000


def test_no_limit() -> None:
    """By default everyone may publish as fast as they can."""
    rates = Rates(None)
    rates.took("a", 10**9)
    assert too_fast(rates, "a") is None


@pytest.mark.slow
def test_limits_over_http(tmp_path: Path) -> None:
    """A 429 with a time to come back, for the user or the address that has too much, and no one else; none is ended."""
    flags = ("--jwt-secret", SECRET, "--anonymous", "news", "--publish-rate", "5")
    flags += ("--max-streams-per-subject", "2", "--max-streams-per-address", "4")
    with Serve(tmp_path, *flags) as server:
        ada, bob = bearer("ada", subscribe=[">"], publish=[">"]), bearer("bob", subscribe=[">"], publish=[">"])
        url = f"{server.url}/channels/news"
        with Reader(url, ada) as first, Reader(url, ada) as second:
            refused = httpx2.get(url, headers=ada)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_of_subject")
            assert 2 <= int(refused.headers["retry-after"]) <= 10
            edge = httpx2.get(f"{server.url}/log/tail", headers=ada | {"last-event-id": first.opened()})
            assert (edge.status_code, edge.json()["code"]) == (429, "too_many_of_subject")
            with Reader(url, bob) as third, Reader(url) as fourth:
                assert (third.answer.status_code, fourth.answer.status_code) == (200, 200)
                refused = httpx2.get(url)
                assert (refused.status_code, refused.json()["code"]) == (429, "too_many_of_address")
                batch = b'{"data": 1}\n' * 500  # which is a debt of 100 seconds
                kind = {"content-type": "application/x-ndjson"}
                assert httpx2.post(url, content=batch, headers=ada | kind).status_code == 200
                tickets = httpx2.post(f"{server.url}/tickets", json={"channels": ["news"]}, headers=ada)
                assert (tickets.status_code, tickets.json()["code"]) == (429, "too_fast")
                refused = httpx2.post(url, content="x", headers=ada)
                assert (refused.status_code, refused.json()["code"]) == (429, "too_fast")
                assert int(refused.headers["retry-after"]) >= 1
                assert httpx2.post(url, content="x", headers=bob).status_code == 200
                for reader in (first, second, third, fourth):
                    assert len(reader.read(6)) == 6
        while httpx2.head(f"{server.url}/health/live").status_code == 200:
            with Reader(url, ada) as again:  # the places are free again
                if again.answer.status_code == 200:
                    break
        metrics = httpx2.get(f"{server.url}/metrics", headers=bearer("root", admin=True)).text
        assert "newswire_refused_total" in metrics
