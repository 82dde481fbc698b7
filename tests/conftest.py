"""What every test gets: asyncio as the one event loop, and warnings as errors (pyproject.toml)."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Async tests (`pytest.mark.anyio`) run on asyncio."""
    return "asyncio"
