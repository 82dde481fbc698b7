"""One server for the tests of a module that don't change its settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.fixtures.serve import Serve


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server with its default settings."""
    with Serve(tmp_path_factory.mktemp("serve")) as running:
        yield running
