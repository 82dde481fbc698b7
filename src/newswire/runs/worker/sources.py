"""Producers: whatever makes the parts of a run, driven to its end.

A source is an async or sync iterable, something to await, or a callable that gives one of these, or does the work
itself with the run in its hand. What is sync gets a thread of its own, since it may block for as long as it likes; what
it writes after the run's end ends it. The driver knows a run's claim and its handle; it decides nothing about how a run
ends.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

from newswire.delivery.threads import in_thread
from newswire.runs.parts import event_of
from newswire.runs.worker.write_queue import Claim

Source: TypeAlias = AsyncIterable[Any] | Iterable[Any] | Awaitable[Any] | Callable[..., Any]

_WHAT: Final = "a run's source"  # for errors
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def run_source(source: Source, claim: Claim, run: object, args: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
    """Write to `claim` what `source` gives, until its end. To be awaited.

    Args:
        source: see the module.
        claim: where to.
        run: the handle that a callable gets, if it takes one.
        args: keyword arguments of a callable.

    Returns:
        what the source returned, if it is something that returns.

    Raises:
        RunOver: the run has ended while its source had not.
        InvalidEvent, LimitExceeded: an item can't be stored.
        Exception: what the source raised.
    """
    if isinstance(source, AsyncIterable):
        return _iterate(source, claim)
    return _run_other(source, claim, run, args)


async def _run_other(
    source: Iterable[Any] | Awaitable[Any] | Callable[..., Any], claim: Claim, run: object, args: Mapping[str, Any]
) -> Any:
    if inspect.isawaitable(source):
        result = await source
        return await run_source(result, claim, run, {}) if _gives_items(result) else result
    if isinstance(source, Iterable):
        return await in_thread(partial(_iterate_in_thread, source, iter(source), claim), what=_WHAT)
    if not callable(source):
        raise _no_source(source)
    call = partial(source, *([run] if _takes_one(source, args) else []), **args)
    inner = source.func if isinstance(source, partial) else source
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        result = call()
    else:
        result = await in_thread(call, what=_WHAT)
        if not _gives_items(result) and not inspect.isawaitable(result):
            return result
    return await run_source(result, claim, run, {})


def check_source(source: object) -> None:
    """Check that a value can be a run's source.

    Raises:
        TypeError: it can't be.
    """
    if isinstance(source, (str, bytes, Mapping)):
        raise TypeError(f"a run's source is an iterable of parts, not one {type(source).__name__}: wrap it in a list")
    if not (isinstance(source, AsyncIterable | Iterable) or inspect.isawaitable(source) or callable(source)):
        raise _no_source(source)


def _no_source(source: object) -> TypeError:
    kind = type(source).__name__
    return TypeError(f"a run's source is an iterable, something to await, or a callable, not {kind}")


async def discard(source: Source | None) -> None:
    """Close a source that is not needed, since another one produces the run."""
    if isinstance(source, asyncio.Future):
        source.cancel()
        return
    close = getattr(source, "aclose", None) or getattr(source, "close", None)
    if close is None or not (isinstance(source, AsyncIterable | Iterator | Coroutine) or inspect.isawaitable(source)):
        return
    with suppress(RuntimeError):  # it is being drawn from by somebody else
        result = close()
        if inspect.isawaitable(result):
            await result


def _gives_items(value: object) -> bool:
    return isinstance(value, AsyncIterable | Iterator)


def _takes_one(call: Callable[..., Any], args: Mapping[str, Any]) -> bool:
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        parameter.kind in _POSITIONAL and parameter.default is parameter.empty and parameter.name not in args
        for parameter in parameters
    )


async def _iterate(source: AsyncIterable[Any], claim: Claim) -> None:
    iterator = aiter(source)
    try:
        async for item in iterator:
            if claim.put(event_of(item)):
                await claim.room()
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
        if iterator is not source and isinstance(source, AsyncIterator):
            await discard(source)  # the stream of an API's client, say, whose connection only this closes


def _iterate_in_thread(source: Iterable[Any], iterator: Iterator[Any], claim: Claim) -> None:
    try:
        for item in iterator:
            claim.put_from_thread(event_of(item))
    finally:
        for each in (iterator, source) if isinstance(source, Iterator) else (iterator,):
            close = getattr(each, "close", None)
            if close is not None:
                close()
