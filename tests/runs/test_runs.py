"""Runs on every log that there is; a new one joins by a class of a few lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.runs.suite.suite import RunSuite

from newswire.log.memory import MemoryLog
from newswire.log.sqlite import SqliteLog
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


class Plain:
    """A log with the powers that runs need, and no others: it is awaited, and calls nobody back."""

    def __init__(self, log: MemoryLog) -> None:
        self.append = log.append
        self.append_guarded = log.append_guarded
        self.newest = log.newest
        self.drop = log.drop
        self.read = log.read
        self.follow = log.follow
        self.span = log.span
        self.trim = log.trim
        self.close = log.close


class TestRunsInAPlainLog(RunSuite):
    """The suite on a log of somebody else's."""

    durable = False

    @pytest.fixture
    def make_log(self) -> MakeLog:
        return lambda **options: Plain(MemoryLog(**options))
