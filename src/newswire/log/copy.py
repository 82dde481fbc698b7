"""Copies a log into another one, on any engines, so that every position stays good: `newswire log copy`.

The copy has the offsets, the times and the lives of its original. So a hub moves to it with its readers: the cursor
that a reader holds means the same place there. What goes on in the original meanwhile comes along, as long as one
wants. A copy that was interrupted, in whatever way, goes on where it was: what the target has says where that is.

What was lost is copied too, so that readers get the gaps that they would have got. Tokens (idempotency keys) are not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from newswire.errors import EpochChanged, LimitExceeded, LogError, LogUnavailable
from newswire.log.engine import Copied, Entry, Losses, Page, Span
from newswire.log.log import Log
from newswire.log.retry import Retry
from newswire.validate import check_flag, check_kind, check_plain

logger: logging.Logger = logging.getLogger("newswire.log")

_PAGE: Final = 1000  # events stored together
_POLL_SECONDS: Final = 0.1  # how often the original's end is looked at
_LOSSES_SECONDS: Final = 30.0  # how often what the original lost is copied while it is followed
_CLOCKS: Final = 0.002  # seconds: engines round times in their own ways


@dataclass(slots=True)
class CopyProgress:
    """How far a copy is.

    Attributes:
        epoch: of both logs.
        begin: the offset after which this call began.
        through: the offset up to which the copy is complete.
        latest: the newest offset of the original, when it was looked at last.
        events: how many were stored by this call.
        idle: seconds since something new was there; 0 before all was copied.
        away: why the last attempt has failed, while a log that is followed can't be reached.
    """

    epoch: str
    begin: int
    through: int
    latest: int
    events: int = 0
    idle: float = 0.0
    away: LogUnavailable | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the copy has all that the original had a moment ago."""
        return self.through >= self.latest


async def copy(
    source: Log,
    target: Log,
    *,
    resume: bool = False,
    until: asyncio.Event | None = None,
    on_progress: Callable[[CopyProgress], object] = lambda progress: None,
) -> CopyProgress:
    """Copy a log.

    Args:
        source: the original. It may be in use; nothing in it is changed.
        target: an empty log, which no one uses; or with `resume` one that has the beginning of this copy. It should
            keep everything: what its own retention removes is lost to readers.
        resume: whether the target may have a part already.
        until: follow the original until this is set, and then copy what is there up to then. None: end when the copy is
            whole. While it follows, a log that can't be reached is tried again.
        on_progress: called after each part, and now and then while there is nothing to do.

    Returns:
        how far it came: the copy is whole.

    Raises:
        LogError: the target has something else; or the original has lost what the copy has.
        LimitExceeded: the target's engine can't store an event that large.
        LogUnavailable: a log can't be reached.
    """
    check_kind("source", source, Log)
    check_kind("target", target, Log)
    check_flag("resume", resume)
    if until is not None:
        check_kind("until", until, asyncio.Event)
    check_plain("on_progress", on_progress)
    copier = _Copier(source, target, on_progress)
    await copier.begin(resume)
    retry = Retry()
    while True:
        seconds = _POLL_SECONDS
        try:
            if await copier.go_on(until is None or until.is_set()):
                return copier.progress
            retry.reset()
        except LogUnavailable as error:
            if until is None:
                raise
            seconds = retry.next()
            copier.note_away(error)
        if until is not None:
            await _wait(until, seconds)


async def _wait(until: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until there is to be an end; once there is, each further attempt comes after a wait too."""
    if until.is_set():
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await until.wait()
    except TimeoutError:
        pass


class _Copier:
    """One call of `copy`."""

    def __init__(self, source: Log, target: Log, on_progress: Callable[[CopyProgress], object]) -> None:
        self.progress: CopyProgress
        self._source = source
        self._target = target
        self._on_progress = on_progress
        self._span: Span
        # Offsets that belong to no event in the copy, as pairs of first and last.
        self._holes: list[tuple[int, int]] = []
        self._losses_due = 0.0
        self._new = time.monotonic()  # when something new was there

    async def begin(self, resume: bool) -> None:
        """See where to begin."""
        source, target = await self._source.span(), await self._target.span()
        if target.latest:
            await self._check(source, target, resume)
            self._holes.append((1, target.latest))  # where exactly is not known here
        self._span = source
        self.progress = CopyProgress(source.epoch, target.latest, target.latest, source.latest)
        if not target.latest and not source.latest:  # the epoch is copied all the same
            await self._target.restore(Copied(entries=(), through=0, lives=source.lives))

    async def _check(self, source: Span, target: Span, resume: bool) -> None:
        ours = {life.epoch for life in source.lives.all}
        if ours.isdisjoint(life.epoch for life in target.lives.all):
            raise LogError(f"the target has events of its own (its epoch is {target.epoch}): copy into an empty log")
        if not resume:
            raise LogError(
                f"the target has the events up to {target.latest:,} of this log already: go on with --resume"
            )
        begun = target.lives.all[-1]
        if begun.epoch not in ours and begun.after < target.latest:
            raise LogError(
                f"the target began a life of its own after {begun.after:,}, and has something of its own there: begin "
                "again with an empty log"
            )
        if target.latest > source.latest:
            raise LogError(
                f"the target ends at {target.latest:,} and the original at {source.latest:,}: the target is in use "
                "already, and what it has is not in the original"
            )
        have, had = await _last(self._target, target.latest), await _last(self._source, target.latest)
        if have is not None and had is not None and not _same(have, had):
            raise LogError(
                f"event {target.latest:,} of the target is another than that of the original: the target is in use "
                "already. Begin again with an empty log"
            )

    def note_away(self, error: LogUnavailable) -> None:
        """The last attempt has failed, and there will be another."""
        self.progress.away = error
        self._on_progress(self.progress)

    async def go_on(self, last: bool) -> bool:
        """Copy what is new.

        Args:
            last: whether to end when the copy is whole.

        Returns:
            whether it has ended.
        """
        try:
            await self._catch_up()
            self.progress.away = None
            if last:
                await self._copy_losses()
                return True
            await self._idle()
        except EpochChanged:
            await self._look_again()
        except LogUnavailable:
            raise
        except LogError:
            if not await self._step_back():
                raise
        return False

    async def _step_back(self) -> bool:
        """Go on from where the target ends, if it has lost events that it had. Returns whether it has."""
        target, progress = await self._target.span(), self.progress
        if target.latest >= progress.through:
            return False
        if target.latest:
            await self._check(self._span, target, True)
        self._holes = [(begin, min(end, target.latest)) for begin, end in self._holes if begin <= target.latest]
        progress.through = target.latest
        progress.begin = min(progress.begin, target.latest)
        self._losses_due = 0.0
        logger.warning("the target has lost events of the copy: going on from %s", f"{target.latest:,}")
        return True

    async def _look_again(self) -> None:
        """The original is in another life now: go on if the copy has nothing that it has lost."""
        span = await self._source.span()
        if span.lives.lost(self._span.epoch, self.progress.through):
            raise LogError(
                f"the original has lost events that the copy has: it is in its life {span.epoch} now. Decide which of "
                "the two goes on, and begin again with an empty log"
            )
        self._span = span
        self.progress.epoch = span.epoch

    async def _catch_up(self) -> None:
        """Copy up to the end that the original has now."""
        progress = self.progress
        progress.latest = (await self._source.span()).latest
        while progress.through < progress.latest:
            page = await self._source.scan(progress.through, _PAGE, epoch=self._span.epoch)
            self._check_size(page.entries)
            through, lives = page.through, self._span.lives
            part = Copied(entries=page.entries, through=through, lives=lives, after=progress.through)
            await self._target.restore(part)
            self._note_holes(page)
            progress.events += len(page.entries)
            progress.through = page.through
            progress.latest = max(progress.latest, page.through)
            progress.idle = 0.0
            self._new = time.monotonic()
            self._on_progress(progress)

    async def _idle(self) -> None:
        """There is nothing new."""
        if time.monotonic() >= self._losses_due:
            self._losses_due = time.monotonic() + _LOSSES_SECONDS
            await self._copy_losses()
        self.progress.idle = time.monotonic() - self._new
        self._on_progress(self.progress)

    async def _copy_losses(self) -> None:
        """Copy what the original has lost that the copy does not have."""
        found = await self._source.losses()
        channels = {name: lost for name, offset in found.channels.items() if (lost := self._lost(offset))}
        shapes = {name: lost for name, offset in found.shapes.items() if (lost := self._lost(offset))}
        progress = self.progress
        lives = self._span.lives
        losses = Losses(channels, shapes)
        at = progress.through
        await self._target.restore(Copied(entries=(), through=at, lives=lives, losses=losses, after=at))

    def _lost(self, offset: int) -> int:
        """The newest offset up to this one that belongs to no event in the copy; 0 if it has all.

        What the original lost after it was copied is no loss here. Whose event an older hole was is not known.
        """
        index = bisect_right(self._holes, offset, key=lambda hole: hole[0]) - 1
        return min(self._holes[index][1], offset) if index >= 0 else 0

    def _note_holes(self, page: Page) -> None:
        at = self.progress.through
        for entry in page.entries:
            if entry.offset > at + 1:
                self._holes.append((at + 1, entry.offset - 1))
            at = entry.offset
        if page.through > at:
            self._holes.append((at + 1, page.through))

    def _check_size(self, entries: Sequence[Entry]) -> None:
        limits = self._target.limits
        for entry in entries:
            size = len(entry.data) if entry.data.isascii() else len(entry.data.encode())
            if size > limits.event_bytes:
                what = f"the size in bytes of event {entry.offset:,} of {entry.channel}"
                raise LimitExceeded(what, limit=limits.event_bytes, actual=size, hint="the target can't store it")
            if not limits.nul and "\0" in entry.data:
                raise LogError(f"event {entry.offset:,} of {entry.channel} has the character NUL: the target can't")


async def _last(log: Log, offset: int) -> Entry | None:
    """The event of this offset."""
    page = await log.scan(offset - 1, 1)
    return next((entry for entry in page.entries if entry.offset == offset), None)


def _same(one: Entry, other: Entry) -> bool:
    return one[:4] == other[:4] and abs(one.time - other.time) <= _CLOCKS
