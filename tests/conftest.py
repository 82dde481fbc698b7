"""What every test gets: asyncio as the one event loop, and warnings as errors (pyproject.toml)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.fixtures.llm import LLM


@pytest.fixture
def anyio_backend() -> str:
    """Async tests (`pytest.mark.anyio`) run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def llm() -> Iterator[LLM]:
    """A real small language model, one for all tests."""
    with LLM() as running:
        yield running
