"""The memory log: the suite, and what is its own."""

from __future__ import annotations

import pytest

from newswire.log.memory import MemoryLog
from newswire.testing import LogSuite
from newswire.testing.log_base import MakeLog


class TestMemoryLog(LogSuite):
    """The suite."""

    durable = False

    @pytest.fixture
    def make_log(self) -> MakeLog:
        return MemoryLog
