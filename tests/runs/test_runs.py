"""Runs on every log that there is; a new one joins by a class of a few lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from newswire.log.memory import MemoryLog
from newswire.log.sqlite import SqliteLog
from newswire.testing import RunSuite
from newswire.testing.log_base import MakeLog


class TestRunsInMemory(RunSuite):
    """The suite on the memory log."""

    durable = False

    @pytest.fixture
    def make_log(self) -> MakeLog:
        return MemoryLog


class TestRunsInSqlite(RunSuite):
    """The suite on the SQLite log, with two hubs on one file."""

    @pytest.fixture
    def make_log(self, tmp_path: Path) -> MakeLog:
        return lambda **options: SqliteLog(tmp_path / "log.db", **options)
