"""The memory log: the suite, and what is its own."""

from __future__ import annotations

import pytest

from newswire.log.memory import MemoryLog
from newswire.testing import ImmediateSuite, LedgerSuite, LogSuite
from newswire.testing.log_base import MakeLog


class TestMemoryLog(LogSuite, LedgerSuite, ImmediateSuite):
    """The suites."""

    durable = False

    @pytest.fixture
    def make_log(self) -> MakeLog:
        return MemoryLog
