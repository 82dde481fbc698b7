"""The SQLite log passes the suite; what is its own is tested beside this file."""

from __future__ import annotations

from pathlib import Path

import pytest

from newswire.log.sqlite import SqliteLog
from newswire.testing import LogSuite
from newswire.testing.log_base import MakeLog


class TestSqliteLog(LogSuite):
    """The suite."""

    @pytest.fixture
    def make_log(self, tmp_path: Path) -> MakeLog:
        return lambda **options: SqliteLog(tmp_path / "log.db", **options)
