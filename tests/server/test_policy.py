"""What a new stream gets: options by channel, a longer `retry:` under pressure, a refusal. None that works is ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.serve import Reader, Serve

from newswire.delivery.problem import Problem
from newswire.hub.options import StreamOptions
from newswire.server.policy import check_room, for_channels, patient, times
from newswire.serving.option_types import SlowRule
from newswire.serving.stats import LoopLag


@pytest.mark.parametrize(
    ("part", "lag", "by"),
    [
        (0.0, 0.0, 1),
        (0.79, 0.4, 1),
        (0.8, 0.0, 2),
        (0.0, 0.5, 2),
        (0.9, 0.5, 4),
        (0.1, 1.2, 4),
        (0.95, 0.0, 8),
        (0, 9, 8),
    ],
)
def test_pressure_is_the_worse_of_both(part: float, lag: float, by: int) -> None:
    """Streams near the limit, or a late event loop."""
    assert times(part, lag) == by


def test_a_longer_retry_has_an_end() -> None:
    """A minute, or what the settings say if that is longer; without `retry:` there is none."""
    assert patient(StreamOptions(retry=3000), 4).retry == 12_000
    assert patient(StreamOptions(retry=30_000), 8).retry == 60_000
    assert patient(StreamOptions(retry=90_000), 8).retry == 90_000
    assert patient(StreamOptions(retry=None), 8).retry is None


def test_the_first_rule_that_covers_all_channels_counts() -> None:
    """A stream that no rule covers as a whole has the common options."""
    rules = {"prices.*": SlowRule(timeout=5.0), "prices.>": SlowRule(max_behind=10)}
    options = StreamOptions()
    assert for_channels(options, rules, ["prices.x"]).write_timeout == 5.0
    deep = for_channels(options, rules, ["prices.x", "prices.a.b"])
    assert (deep.write_timeout, deep.max_behind) == (30.0, 10)
    assert for_channels(options, rules, ["prices.x", "news"]) is options
    assert for_channels(options, rules, [">"]) is options


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_loop_that_stays_late_refuses_new_streams() -> None:
    """One pause does not; a loop that is late again and again does, until it is in time."""
    lag = LoopLag()
    lag.start()
    try:
        check_room(0, 10, lag, 0.05)
        async with asyncio.timeout(30):
            while lag.sustained <= 0.05:
                time.sleep(0.4)  # noqa: ASYNC251  # what a busy loop is like
                await asyncio.sleep(0)
            with pytest.raises(Problem) as refused:
                check_room(0, 10, lag, 0.05)
            assert (refused.value.status, refused.value.code) == (503, "overloaded")
            assert 5 <= int(refused.value.headers["retry-after"]) <= 20
            check_room(0, 10, lag, None)
            while lag.sustained > 0.05:
                await asyncio.sleep(0.05)
        check_room(0, 10, lag, 0.05)
    finally:
        lag.stop()


@pytest.mark.slow
def test_streams_near_the_limit(tmp_path: Path) -> None:
    """`retry:` grows, then a 503 whose time is drawn; the streams that are there go on."""
    with Serve(tmp_path, "--max-streams", "10", "--retry", "1000") as server, contextlib.ExitStack() as stack:
        url = f"{server.url}/channels/news"
        readers = [stack.enter_context(Reader(url)) for _ in range(10)]
        for reader in readers:
            reader.opened()
        assert [reader.decoder.retry for reader in readers] == [1000] * 8 + [2000, 4000]
        refused = [httpx2.get(url) for _ in range(8)]
        assert {(one.status_code, one.json()["code"]) for one in refused} == {(503, "too_many_streams")}
        assert len({one.headers["retry-after"] for one in refused}) > 1
        server.publish("news", "still here")
        assert [reader.read(1)[0].data for reader in readers] == ["still here"] * 10


@pytest.mark.slow
def test_a_slow_reader_skips_old_prices(tmp_path: Path) -> None:
    """It gets a gap that says so, and then what is newest."""
    with (
        Serve(tmp_path, "--slow", "prices.>:max_behind=5", "--write-timeout", "5m") as server,
        Reader(f"{server.url}/channels/prices.x") as prices,
    ):
        prices.opened()
        for number in range(36):  # 11 MB, more than the kernel takes for a reader that does not read
            server.publish("prices.x", f"{number} " + "x" * 300_000)
        got = []
        while not got or got[-1].event != "newswire.gap":
            got += prices.read(1)
        assert got[-1].json()["reason"] == "slow"
        assert got[-1].json()["certain"] is False
        assert len(got) < 36
        numbers = [event.data.partition(" ")[0] for event in got[:-1]]
        assert numbers == [str(number) for number in range(len(numbers))]
        server.publish("prices.x", "newest")
        assert prices.read(1)[0].data == "newest"
