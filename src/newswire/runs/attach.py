"""Attaching to a run that was started elsewhere: a block that writes to it, and ends it if it is the block's to end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from newswire.errors import RunOver

if TYPE_CHECKING:
    from newswire.runs.reading.run import Run
    from newswire.runs.runs import Runs
    from newswire.runs.store.record import Record


class Attachment:
    """What `Runs.attach` gives: an async context manager of the run, or something to await for it.

    Who awaits it ends the run with `run.finish()` or `run.fail()`.
    """

    def __init__(self, runs: Runs, find: Callable[[], Awaitable[Record]]) -> None:
        self._runs = runs
        self._find = find
        self._run: Run | None = None
        self._claimed = False

    def __await__(self) -> Generator[Any, None, Run]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Run:
        worker = await self._runs.open()
        self._run, self._claimed = await worker.attached(self._find)
        return self._run

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run = self._run
        if run is None:
            return
        if not self._claimed:
            if error is None:
                await run.flush()
        elif error is None:
            await run.finish()
        elif not isinstance(error, RunOver):
            await run.fail(error)
