"""A relay for the tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fixtures.relay import World
from tests.fixtures.upstream import Upstream

from newswire import Hub
from newswire.log import open_log
from newswire.relay import Relay
from newswire.runs import Runs


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A relay whose log is a file."""
    async with (
        Upstream() as upstream,
        Hub(open_log(f"sqlite:///{tmp_path}/relay.db")) as hub,
        Runs(hub, public=True) as runs,
    ):
        made = World(upstream, runs, Relay(runs, [upstream.url]))
        yield made
        await made.close()
