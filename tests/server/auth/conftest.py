"""Servers that ask for credentials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.fixtures.serve import Serve

from newswire.server.auth import new_token

SECRET = "a secret of sixty-four bytes, which is as long as HS512 wants it to be"
CLIENT = httpx2.Client(timeout=30)  # a client of its own for each request takes 20 ms


def bearer(subject: str | None = "ada", **more: Any) -> dict[str, str]:
    """The header of a token."""
    return {"authorization": f"Bearer {new_token(SECRET, subject=subject, **more)}"}


def publish(server: Serve, channel: str, data: str) -> str:
    """Publish with a token that may."""
    answer = httpx2.post(f"{server.url}/channels/{channel}", content=data, headers=bearer("root", publish=[">"]))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serve, Serve]]:
    """Two nodes with one log, a file."""
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    log = f"sqlite:///{folders[0]}/shared.db"
    flags = (
        "--jwt-secret",
        SECRET,
        "--log",
        log,
        "--retry",
        "50",
        "--cors-origin",
        "https://app.example",
        "--anonymous",
        "public.x",
    )
    with Serve(folders[0], *flags) as one, Serve(folders[1], *flags) as other:
        yield one, other
