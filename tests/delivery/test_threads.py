"""Calls in threads of their own."""

from __future__ import annotations

from contextvars import ContextVar

import pytest

from newswire.delivery.threads import in_thread

pytestmark = pytest.mark.anyio
_user: ContextVar[str] = ContextVar("user")


@pytest.mark.parametrize("kind", [StopIteration, GeneratorExit, KeyboardInterrupt])
async def test_what_a_task_takes_for_something_else(kind: type[BaseException]) -> None:
    """It is an error of the call's, which names it; the caller waits for nothing more."""

    def call() -> None:
        raise kind

    with pytest.raises(RuntimeError, match=f"^the reader raised {kind.__name__}$"):
        await in_thread(call, what="the reader")


async def test_it_has_the_caller_s_context() -> None:
    """So what a framework knows of the present user is known there too."""
    _user.set("ada")
    assert await in_thread(_user.get) == "ada"
