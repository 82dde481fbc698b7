"""What an engine raises, as an error of ours."""

from __future__ import annotations

import asyncio
import copy

from newswire.errors import Closed, LogError, LogUnavailable, NewswireError


def as_log_error(error: Exception) -> LogError:
    """What an engine raised, as an outcome: an error of another package is the `__cause__` of one of ours."""
    if isinstance(error, LogError):
        return error
    failed = LogError(f"the log failed: {str(error) if isinstance(error, NewswireError) else repr(error)}")
    failed.__cause__ = error
    return failed


def as_unavailable(error: BaseException, *, closed: bool) -> BaseException:
    """What an engine's call raised, as what a caller of the log gets."""
    if isinstance(error, LogError) or (closed and isinstance(error, Closed)):
        return error
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return error if task is None or task.cancelling() else LogUnavailable("the log gave up")
    return LogUnavailable(f"the log failed: {type(error).__name__}: {error}")


def own_copy(error: LogError) -> LogError:
    """A copy to raise: a raised exception keeps where it was raised, and several publishers may have got one."""
    one = copy.copy(error)
    one.__cause__ = error.__cause__
    return one
