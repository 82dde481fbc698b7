"""The log on a Valkey server passes the suite; what is its own is tested beside this file."""

from __future__ import annotations

import itertools
import os

import pytest
from tests.fixtures.engines import Valkey

from newswire.log.redis.engine import RedisLog
from newswire.testing import LogSuite
from newswire.testing.log_base import MakeLog

_numbers = itertools.count()


class TestRedisLog(LogSuite):
    """The suite."""

    @pytest.fixture
    def make_log(self, valkey: Valkey) -> MakeLog:
        namespace = f"suite.{os.getpid()}.{next(_numbers)}"
        return lambda **options: RedisLog(valkey.url, namespace=namespace, **options)
