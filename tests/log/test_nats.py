"""The log on a NATS server passes the suite; what is its own is tested beside this file."""

from __future__ import annotations

import itertools
import os

import pytest
from tests.fixtures.engines import Nats

from newswire.log.nats.engine import NatsLog, one_rule
from newswire.log.retention import Retention
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


def test_no_rules_keep_everything() -> None:
    """As `newswire serve --retention none` gives them."""
    assert one_rule({}) == one_rule(None) == Retention()
