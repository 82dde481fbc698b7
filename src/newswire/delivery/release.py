"""What a request holds while its stream is open, such as a database session: given back where that can be done.

FastAPI keeps dependencies with `yield` until the response is sent, which for a stream is for as long as it is open. A
pool of ten connections then serves ten readers. A subscription needs nothing of its request, so they end when its
stream begins, before the head: what they raise at their end still becomes a status code. An iterable may use them, so
there they stay, and a warning says once what to do.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import Any, Final

logger = logging.getLogger("newswire.delivery")

# Where FastAPI keeps the dependencies of a request, and the files of its form.
_STACKS: Final = ("fastapi_inner_astack", "fastapi_middleware_astack")
_warned = False


async def release(scope: Any) -> None:
    """End the dependencies of a request whose response needs them no more.

    Raises:
        Exception: what a dependency raised at its end.
    """
    for name in _STACKS:
        stack = scope.get(name)
        if isinstance(stack, AsyncExitStack):
            await stack.aclose()


def warn_of_held(scope: Any) -> None:
    """Log a warning, once in a process, if an open stream holds dependencies."""
    global _warned
    stack = scope.get(_STACKS[0])
    if _warned or not getattr(stack, "_exit_callbacks", None):  # contextlib's own; without it there is no warning
        return
    _warned = True
    logger.warning(
        "A stream holds the dependencies with yield of its request (a database session, say) for as long as it is "
        "open, because its iterable or its background task may use them. If they don't, declare them "
        "Depends(..., scope='function'), or open what the iterable needs inside it. This is said once in a process."
    )
