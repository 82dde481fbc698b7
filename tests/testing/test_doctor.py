"""The doctor as a fixture: what a user's test says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from tests.doctor.faulty import FAULTS, healthy, serving

pytest_plugins = ["newswire.testing.doctor"]
pytestmark = pytest.mark.anyio
Check = Callable[..., Awaitable[None]]


@pytest.mark.slow
async def test_a_healthy_stream_passes(check_stream: Check) -> None:
    """Nothing is raised."""
    with serving(healthy) as url:
        await check_stream(url, seconds=1)


@pytest.mark.slow
async def test_findings_fail_the_test(check_stream: Check) -> None:
    """With the cure in the message; a finding that is ignored does not."""
    with serving(FAULTS["any_origin"][1]) as url:
        with pytest.raises(pytest.fail.Exception, match=r"cors-credentials: .*\n.*must be named"):
            await check_stream(url, seconds=1)
        await check_stream(url, seconds=1, ignore=["cors-credentials"])


async def test_nobody_there(check_stream: Check) -> None:
    """The test fails, and says why."""
    with pytest.raises(pytest.fail.Exception, match="can't be reached"):
        await check_stream("http://127.0.0.1:9/")
