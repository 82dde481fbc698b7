"""Each target of the fuzzers for a moment. For as long as you like: `python -m tests.fuzz --minutes 10`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.fuzz.__main__ import attack
from tests.fuzz.targets import RESOURCES, TARGETS, Target


@pytest.fixture(scope="module", autouse=True)
def resources() -> Iterator[None]:
    """What the targets have opened is closed at the end."""
    yield
    RESOURCES.close()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_breaks(target: Target) -> None:
    """Up to 200 inputs: what the target promises holds for each."""
    assert attack(target, max(20, 200 // target.cost), seed=None) >= 20
