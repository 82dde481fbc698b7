"""The log in a PostgreSQL database passes the suite; what is its own is tested beside this file."""

from __future__ import annotations

import itertools
import os

import pytest
from tests.fixtures.engines import Postgres

from newswire.log.postgres.engine import PostgresLog
from newswire.testing import LogSuite
from newswire.testing.log_base import MakeLog

_numbers = itertools.count()


class TestPostgresLog(LogSuite):
    """The suite."""

    @pytest.fixture
    def make_log(self, postgres: Postgres) -> MakeLog:
        namespace = f"suite.{os.getpid()}.{next(_numbers)}"
        return lambda **options: PostgresLog(postgres.url, namespace=namespace, **options)
