"""What an open stream keeps from others: the dependencies of its request, and connections of a database's pool.

An iterable may use a session of its request, so that stays open with the stream. With a pool of five connections the
sixth reader then waits, and after him everyone. Newswire can't know whether the iterable needs the session, so it ends
nothing. It logs one warning in a process, which says what is held and what to do. Looking costs a stream nothing where
SQLAlchemy is not imported, and nothing after the warning.

A session is found where requests have them: in a dependency of FastAPI's, among the variables of the generator that is
the stream's content, and in `request.state`. SQLAlchemy's own objects say whether a connection is checked out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import FrameType
from typing import Any, Final

from newswire.delivery.framework import STACKS

logger: logging.Logger = logging.getLogger("newswire.delivery")

_DEPTH: Final = 4  # FastAPI's context managers in context managers, for dependencies that run in a thread
_CONNECTION: Final = (
    "A stream begins while its request has a connection of SQLAlchemy's pool checked out. It holds that as long as it "
    "is open, and when the streams hold all of the pool, every other request waits. Close the session (or commit) "
    "before the stream begins: declare it Depends(..., scope='function') in FastAPI, or use `with Session(...)` for "
    "each query inside the iterable. This warning comes once in a process."
)
_DEPENDENCIES: Final = (
    "A stream holds the dependencies with yield of its request (a database session, say) for as long as it is open, "
    "because its iterable or its background task may use them. If they don't, declare them "
    "Depends(..., scope='function'), or open what the iterable needs inside it. This warning comes once in a process."
)
_warned = False


def warn_of_held(scope: Any, content: Any = None, *, dependencies: bool = True) -> None:
    """Log a warning, once in a process, if the stream that is about to begin holds something of its request.

    Args:
        scope: of the request.
        content: the iterable of the stream, or the frame that draws from it; None for a subscription.
        dependencies: whether FastAPI's dependencies with `yield` are still open.
    """
    global _warned
    if _warned:
        return
    stacks = [scope.get(name) for name in STACKS] if dependencies else []
    if "sqlalchemy" in sys.modules and any(map(_has_connection, _candidates(scope, content, stacks))):
        _warned = True
        logger.warning(_CONNECTION)
    elif stacks and getattr(stacks[0], "_exit_callbacks", None):  # contextlib's own; without it there is no warning
        _warned = True
        logger.warning(_DEPENDENCIES)


def _candidates(scope: Any, content: Any, stacks: list[Any]) -> Iterator[Any]:
    """The values that may be sessions or connections."""
    yield from (scope.get("state") or {}).values()
    yield from _variables(content)
    for stack in stacks:
        if isinstance(stack, AsyncExitStack):
            for _, callback in getattr(stack, "_exit_callbacks", ()):
                yield from _within(getattr(callback, "__self__", None), _DEPTH)


def _within(manager: Any, depth: int) -> Iterator[Any]:
    """The variables of a context manager that was made of a generator, and of those among them."""
    for value in _variables(getattr(manager, "gen", None)):
        yield value
        if depth and hasattr(value, "gen"):
            yield from _within(value, depth - 1)


def _variables(source: Any) -> list[Any]:
    """Those of a generator, or of a frame."""
    if isinstance(source, FrameType):
        return list(source.f_locals.values())
    frame = getattr(source, "ag_frame", None) or getattr(source, "gi_frame", None)
    return [] if frame is None else list(frame.f_locals.values())


def _has_connection(value: Any) -> bool:
    """Whether it is a session or a connection of SQLAlchemy's that holds a connection of the pool."""
    if not type(value).__module__.startswith("sqlalchemy."):
        bases = type(value).__mro__  # SQLModel's session is a subclass
        if not any(base.__module__.startswith("sqlalchemy.") for base in bases):
            return False
    value = getattr(value, "sync_session", value)
    value = getattr(value, "sync_connection", value)
    get_transaction = getattr(value, "get_transaction", None)
    if get_transaction is None:
        return False
    if hasattr(value, "closed"):  # a connection
        return not value.closed
    transaction = get_transaction()
    return transaction is not None and bool(getattr(transaction, "_connections", True))
