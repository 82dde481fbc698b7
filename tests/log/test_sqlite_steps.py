"""Pages that take many steps are those that take one: the suite with tiny steps, and with retention between them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from newswire.log.channels import Channels, Pattern
from newswire.log.retention import Retention
from newswire.log.sqlite import SqliteLog, pages
from newswire.testing.log_base import MakeLog, opened
from newswire.testing.log_read import ReadTests
from newswire.testing.log_walk import WalkTests
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio

_TINY = {"_FEW": 2, "_BATCH": 2, "_FIRST": 1, "_LOSSES": 1, "_SCANS": 3, "_MATCHES_KEPT": 2, "_IDS_KNOWN": 4}


@pytest.fixture(params=["listed", "not listed"])
def tiny(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every step as small as it can be."""
    for name, value in (_TINY | {"_LISTED": 100 if request.param == "listed" else 0}).items():
        monkeypatch.setattr(pages, name, value)


@pytest.mark.usefixtures("tiny")
class TestTinySteps(ReadTests, WalkTests):
    """The parts of the suite that read."""

    @pytest.fixture
    def make_log(self, tmp_path: Path) -> MakeLog:
        return lambda **options: SqliteLog(tmp_path / "log.db", synchronous="NORMAL", **options)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("seed", range(8))
async def test_retention_between_the_steps_of_a_page(tmp_path: Path, seed: int) -> None:
    """However a page's steps and removals fall together, each event is on a page, or its loss is."""
    dice = random.Random(seed)
    names = [f"{dice.choice('ab')}.{number}" for number in range(12)]
    async with opened(SqliteLog(tmp_path / "log.db", synchronous="NORMAL", retention=Retention(max_events=4))) as log:
        stored: dict[int, str] = {}

        async def write() -> None:
            for _ in range(15):
                batch = [(dice.choice(names), Event("x")) for _ in range(dice.randint(1, 20))]
                positions = await log.append(batch)
                stored.update((at.offset, name) for at, (name, _) in zip(positions, batch, strict=True))
                await log.trim()

        async def read(wanted: Channels) -> int:
            mine = {name for name in (*names, "none") if name in wanted}
            pages = at = 0
            while not writing.done() or at < max(stored):
                page = await log.read(wanted, at, dice.randint(1, 10))
                there = {entry.offset for entry in page.entries}
                # What was appended in this moment is not in `stored` yet, and then not beyond the page either.
                expected = {offset for offset, name in stored.items() if at < offset <= page.through and name in mine}
                assert all(offset <= page.lost for offset in expected - there)
                at, pages = page.through, pages + 1
            return pages

        [first] = await log.append([("none", Event("first"))])
        stored[first.offset] = "none"
        writing = asyncio.ensure_future(write())
        sets = [names[:5], names[3:], [Pattern("a.*")], [Pattern(">")], [Pattern("b.>"), *names[:2]]]
        assert all(await asyncio.gather(*(read(Channels(each)) for each in sets)))
        await writing
