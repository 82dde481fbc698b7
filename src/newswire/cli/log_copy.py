"""`newswire log copy`: moves a log to another place, or another engine, while it is in use.

The protocol of a move: copy with `--follow`; stop the servers on the original, so that nothing more is stored in it;
end this command, which copies the rest; start the servers on the copy. Readers come back with their cursors by
themselves, and go on there.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from functools import partial

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from newswire import posix
from newswire.cli.log_options import opened, run, shown
from newswire.cli.options import Duration
from newswire.cli.terminal import INTERRUPTED, echo_done, say
from newswire.counted import counted
from newswire.errors import LogUnavailable, LogUncertain
from newswire.log.copy import CopyProgress as Copied
from newswire.log.copy import copy as copy_log
from newswire.log.log import Log

_SAY_SECONDS = 10.0  # how often it says where it is, where there is no terminal


@click.command(short_help="Copy the log to another place, with its offsets and its epoch.")
@click.option("--from", "source", required=True, metavar="URL", help="The original.")
@click.option(
    "--to", "target", required=True, metavar="URL", help="An empty log, of any kind; made if it is not there."
)
@click.option("--resume", is_flag=True, help="Go on with a copy that was interrupted.")
@click.option("--follow", is_flag=True, help="Go on copying what comes, until Ctrl-C or SIGTERM; then end in order.")
@click.option(
    "--until-idle",
    type=Duration(),
    metavar="TIME",
    help="Follow until nothing new has come for so long.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end.")
def copy(source: str, target: str, resume: bool, follow: bool, until_idle: float | None, as_json: bool) -> None:
    """Copy a log with its offsets and its epoch, so that readers' cursors stay good.

    To move a log that is in use: copy it with --follow; when the copy has caught up, stop the servers on the original;
    then press Ctrl-C here, which copies the rest; start the servers on the copy.
    """
    if source == target:
        raise click.UsageError("--from and --to are the same log")
    work = _Work(opened(source), opened(target, make=True), until_idle)
    done = run(work.copy(resume, follow or until_idle is not None))
    copied = f"{counted(done.events, 'event')} copied; {shown(target)} has all up to {done.epoch}-{done.through}"
    if as_json:
        echo_done(json.dumps({"epoch": done.epoch, "events": done.events, "through": done.through}), copied)
        return
    next_step = f"\nstart the servers with --log {shown(target)} now: readers go on from their cursors"
    echo_done(copied + (next_step if follow or until_idle is not None else ""), copied)


class _Work:
    """One copy, its progress on standard error, and its end."""

    def __init__(self, source: Log, target: Log, until_idle: float | None) -> None:
        self._source = source
        self._target = target
        self._until_idle = until_idle
        self._stop = asyncio.Event()
        self._whole = False  # and it has reported that
        self._through: int | None = None  # the copy has all up to this offset, as far as is known
        self._away: LogUnavailable | None = None  # and it has reported that
        self._shown_at = 0.0

    async def copy(self, resume: bool, follow: bool) -> Copied:
        """Copy, until it is whole, or was interrupted."""
        loop = asyncio.get_running_loop()
        if follow:
            for number in (signal.SIGINT, signal.SIGTERM):
                posix.on_signals(loop, (number,), partial(self._interrupt, number))
        console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.fields[what]}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
            TextColumn("{task.fields[rate]}", style="cyan"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._shown_at = loop.time()
        try:
            with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
                task = progress.add_task("", total=0, what="copying", rate="")
                return await copy_log(
                    self._source,
                    self._target,
                    resume=resume,
                    until=self._stop if follow else None,
                    on_progress=partial(self._show, progress, task, follow),
                )
        except (LogUnavailable, LogUncertain, asyncio.CancelledError):
            if self._through is not None:
                say(f"the copy was interrupted after {self._through:,}: go on with --resume")
            raise
        finally:
            await self._source.close()
            await self._target.close()

    def _interrupt(self, number: int) -> None:
        if self._stop.is_set():  # the second time: at once
            signal.signal(number, signal.SIG_DFL)
            sys.exit(INTERRUPTED)
        self._stop.set()

    def _show(self, progress: Progress, task: TaskID, follow: bool, copied: Copied) -> None:
        self._through = copied.through
        speed = progress.tasks[0].speed
        progress.update(
            task,
            completed=copied.through - copied.begin,
            total=copied.latest - copied.begin,
            what="following" if follow and copied.is_whole else "copying",
            rate=f"{speed:,.0f}/s" if speed else "",
        )
        if self._until_idle is not None and copied.idle >= self._until_idle:
            self._stop.set()
        now = asyncio.get_running_loop().time()
        if copied.away is not None and self._away is None:
            say(f"{shown(str(copied.away))}; trying again")
        self._away = copied.away
        if follow and copied.is_whole and not self._whole:
            self._whole = True
            say(f"all is copied up to {copied.epoch}-{copied.through}; following. Ctrl-C ends when the servers stopped")
        elif progress.disable and now >= self._shown_at + _SAY_SECONDS:
            self._shown_at = now
            say(f"copied up to {copied.through:,} of {copied.latest:,}")
