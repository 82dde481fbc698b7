"""What tests of edges share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.fixtures.origin import Many, many_origins


@pytest.fixture(scope="module")
def origins() -> Iterator[Many]:
    """One server for all origins."""
    with many_origins() as many:
        yield many
