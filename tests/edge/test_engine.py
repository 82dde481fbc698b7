"""The log of another server passes the suite; what is its own is tested beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.origin import Many, edges_of

from newswire.log.log import Log
from newswire.testing import LogSuite
from newswire.testing.log_base import MakeLog


@pytest.mark.slow
class TestEdgeLog(LogSuite):
    """The suite."""

    tailed_first = False

    @pytest.fixture
    def make_log(self, origins: Many, tmp_path: Path) -> Iterator[MakeLog]:
        yield edges_of(origins, tmp_path / "origin.db")
        origins.close()

    @pytest.mark.parametrize("seed", range(2))
    async def test_pages_join(self, log: Log, seed: int) -> None:
        """Two worlds: each page is a request, and the origin's log has joined more."""
        await super().test_pages_join(log, seed)

    @pytest.mark.parametrize("strange", [False, True], ids=["steady clock", "strange clock"])
    async def test_a_random_walk(self, make_log: MakeLog, strange: bool) -> None:
        """One walk for each clock: it is the origin that retains, and its log has walked more."""
        await super().test_a_random_walk(make_log, 0, strange)
