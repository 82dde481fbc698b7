"""Runs for threads: code that runs in no event loop starts, writes to and stops runs through here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from newswire.runs.dialects.base import End
    from newswire.runs.reading.run import Run
    from newswire.runs.runs import Runs
    from newswire.runs.worker.sources import Source


class SyncRuns:
    """Blocking calls, for any thread but the event loop's own; see `newswire.hub.sync.SyncHub`.

    Of a run that they give, `put`, `progress` and `track` work in threads as they are.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def start(self, name: str, source: Source | None = None, *, timeout: float | None = None, **options: Any) -> Run:
        """See `Runs.start`."""
        return self._runs.hub.sync.call(lambda: self._runs.start(name, source, **options), timeout)

    @contextmanager
    def attach(self, run_id: str | None = None, *, timeout: float | None = None, **which: str | None) -> Iterator[Run]:
        """See `Runs.attach`: `with runs.sync.attach(run_id) as run:`."""
        attachment = self._runs.attach(run_id, **which)
        call = self._runs.hub.sync.call
        run = call(attachment.__aenter__, timeout)
        try:
            yield run
        except BaseException as error:
            failure = error
            call(lambda: attachment.__aexit__(type(failure), failure, failure.__traceback__), timeout)
            raise
        call(lambda: attachment.__aexit__(None, None, None), timeout)

    def stop(self, run_id: str | None = None, *, timeout: float | None = None, **which: str | None) -> bool:
        """See `Runs.stop`."""
        return self._runs.hub.sync.call(lambda: self._runs.stop(run_id, **which), timeout)

    def get(self, run_id: str | None = None, *, timeout: float | None = None, **which: str | None) -> Run:
        """See `Runs.get`."""
        return self._runs.hub.sync.call(lambda: self._runs.get(run_id, **which), timeout)

    def wait(self, run: Run, timeout: float | None = None) -> End:
        """See `Run.wait`.

        Raises:
            TimeoutError: the time is over; the run goes on.
        """
        return self._runs.hub.sync.call(run.wait, timeout)

    def text(self, run: Run, timeout: float | None = None) -> str:
        """See `Run.text`."""
        return self._runs.hub.sync.call(run.text, timeout)
