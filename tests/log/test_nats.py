"""The log on a NATS server passes the suite; what is its own is tested beside this file."""

from __future__ import annotations

import itertools
import os

import pytest
from tests.fixtures.engines import Nats

from newswire.log.nats.engine import NatsLog
from newswire.testing import LogSuite
from newswire.testing.log_base import MakeLog

_numbers = itertools.count()


class TestNatsLog(LogSuite):
    """The suite."""

    per_channel = False
    clocked = False
    tailed_first = False

    @pytest.fixture
    def make_log(self, nats: Nats) -> MakeLog:
        namespace = f"suite-{os.getpid()}-{next(_numbers)}"
        return lambda **options: NatsLog(nats.url, namespace=namespace, **options)
