"""Looks through a whole log and says what is wrong with it: `newswire log verify`.

A log is read twice: as a whole in its order, and channel by channel as readers do. Both have to give the same events,
with offsets that grow, inside what the log says that it spans, in one life. Events may come and go meanwhile: what was
removed since it was seen is no finding.
"""

from __future__ import annotations

import re
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from newswire.errors import InvalidChannel
from newswire.log.channels import Channels, check_channel
from newswire.log.engine import Entry, Page, Span
from newswire.log.log import Log
from newswire.validate import check_kind, check_plain

_PAGE: Final = 1000
_BREAKS: Final = re.compile(r"[\r\n\0]")
_CHANNELS: Final = 200  # read at once
_MOST: Final = 100  # findings that are listed
_AHEAD: Final = 86_400.0  # seconds that clocks may differ


@dataclass(slots=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        span: of the log, when it was looked at first.
        events, channels: how many there are.
        holes: offsets between the first kept event and the last that belong to no event: it was removed.
        findings: what is wrong, in a sentence each; the first hundred.
        more: how many findings are not listed.
    """

    span: Span
    events: int = 0
    channels: int = 0
    holes: int = 0
    findings: list[str] = field(default_factory=list)
    more: int = 0

    def find(self, text: str) -> None:
        """Something is wrong."""
        if len(self.findings) < _MOST:
            self.findings.append(text)
        else:
            self.more += 1


async def verify(log: Log, on_progress: Callable[[int], object] = lambda offset: None) -> VerifyReport:
    """Look through a log.

    Args:
        log: the log; nothing in it is changed.
        on_progress: called with the number of events looked at so far, of twice as many as there are.

    Raises:
        EpochChanged: the log began another life meanwhile: try again.
        LogError: the engine can't be read as a whole.
    """
    check_kind("log", log, Log)
    check_plain("on_progress", on_progress)
    report = VerifyReport(await log.span())
    _check_lives(report)
    offsets = await _whole(log, report, on_progress)
    report.channels = len(offsets)
    names = sorted(filter(_is_channel, offsets))
    read = 0
    for begin in range(0, len(names), _CHANNELS):
        some = names[begin : begin + _CHANNELS]
        read += await _by_channel(log, report, {name: offsets[name] for name in some})
        on_progress(report.events + read)
    return report


def _check_lives(report: VerifyReport) -> None:
    lives = report.span.lives.all
    if report.span.earliest > report.span.latest:
        report.find(f"the span begins after its end: {report.span.earliest} to {report.span.latest}")
    if len({life.epoch for life in lives}) != len(lives):
        report.find("an epoch names two lives of the log")
    if lives[-1].epoch != report.span.epoch:
        report.find(f"the newest life is {lives[-1].epoch}, and the log is in {report.span.epoch}")
    if lives[-1].after > report.span.latest:
        report.find(f"life {lives[-1].epoch} began after {lives[-1].after}, and the log ends at {report.span.latest}")


async def _whole(log: Log, report: VerifyReport, on_progress: Callable[[int], object]) -> dict[str, array[int]]:
    """The offsets of each channel, from the log as a whole."""
    span, latest = report.span, time.time() + _AHEAD
    offsets: dict[str, array[int]] = {}
    at, before = 0, None
    while at < span.latest:
        page = await log.scan(at, _PAGE, epoch=span.epoch)
        for entry in page.entries:
            if entry.offset > span.latest:
                break
            _check_entry(report, entry, before, page, at, latest)
            if before is not None:
                report.holes += max(entry.offset - before - 1, 0)
            elif entry.offset != span.earliest + 1 and (await log.span()).earliest == span.earliest:
                report.find(f"the log says that its first event is {span.earliest + 1}, and it is {entry.offset}")
            before = entry.offset
            report.events += 1
            offsets.setdefault(entry.channel, array("q")).append(entry.offset)
        if page.through <= at:
            report.find(f"the page after {at} does not go on: it ends at {page.through}")
            break
        at = page.through
        on_progress(report.events)
    if before is not None:
        report.holes += span.latest - before
    elif span.earliest != span.latest and (await log.span()).earliest == span.earliest:
        report.find(f"the log says that it has events after {span.earliest}, and it has none")
    return offsets


def _check_entry(report: VerifyReport, entry: Entry, before: int | None, page: Page, at: int, latest: float) -> None:
    offset = entry.offset
    if before is not None and offset <= before:
        report.find(f"event {offset} comes after event {before}")
    if not at < offset <= page.through:
        report.find(f"event {offset} is on a page that goes from {at + 1} to {page.through}")
    if offset <= report.span.earliest:
        report.find(f"event {offset} is before the first that the log says it has, {report.span.earliest + 1}")
    if not entry.event:
        report.find(f"event {offset} has no type")
    elif _BREAKS.search(entry.event):
        report.find(f"the type of event {offset} has a line break: {entry.event[:50]!r}")
    if not 0 < entry.time < latest:
        report.find(f"event {offset} has a time that can't be: {entry.time}")
    try:
        check_channel(entry.channel)
    except InvalidChannel as error:
        report.find(f"event {offset}: {error}")


async def _by_channel(log: Log, report: VerifyReport, seen: dict[str, array[int]]) -> int:
    """Read some channels as readers do, and compare. Returns how many events they have."""
    span, names = report.span, list(seen)
    found: dict[str, array[int]] = {name: array("q") for name in names}
    at = lost = count = 0
    while at < span.latest:
        page = await log.read(Channels(names), at, _PAGE, epoch=span.epoch)
        lost = max(lost, page.lost)
        for entry in page.entries:
            if entry.channel not in found:
                report.find(f"event {entry.offset} of {entry.channel} came to readers of other channels")
            elif entry.offset <= span.latest:
                found[entry.channel].append(entry.offset)
                count += 1
        if page.through <= at:
            report.find(f"a reader's page after {at} does not go on: it ends at {page.through}")
            break
        at = page.through
    for name in names:
        if found[name] != seen[name]:
            await _compare(log, report, name, seen[name], found[name])
    for name, newest in zip(names, await log.newest(names), strict=True):
        end = seen[name][-1]
        if (newest is None or newest.offset < end) and await _still_there(log, name, [end]):
            other = "none" if newest is None else str(newest.offset)
            report.find(f"the newest event of {name} is {end}, and the log says that it is {other}")
    return count


def _is_channel(name: str) -> bool:
    try:
        check_channel(name)
    except InvalidChannel:
        return False
    return True


async def _compare(log: Log, report: VerifyReport, name: str, seen: Sequence[int], found: Sequence[int]) -> None:
    missing = await _still_there(log, name, _without(seen, found))
    extra = _without(found, seen)
    if missing:
        report.find(f"readers of {name} don't get {_some(missing)}, which the log has")
    if extra:
        report.find(f"readers of {name} get {_some(extra)}, which the log as a whole does not have")


async def _still_there(log: Log, name: str, offsets: Sequence[int]) -> list[int]:
    """Those of some events of a channel that are there still. Of a dropped one a log keeps no note.

    Args:
        offsets: in order.
    """
    if not offsets:
        return []
    page = await log.read(Channels([name]), 0, 1)
    lost = max(page.lost, page.doubt)
    found: list[int] = []
    through = lost
    for index, offset in enumerate(offsets):
        if offset > through:
            page = await log.scan(offset - 1, _PAGE)
            through = max(page.through, offset)
            there = {entry.offset for entry in page.entries}
            end = bisect_right(offsets, through)
            found += [each for each in offsets[index:end] if each in there]
    return found


def _without(these: Sequence[int], those: Sequence[int]) -> list[int]:
    def has(offset: int) -> bool:
        index = bisect_left(those, offset)
        return index < len(those) and those[index] == offset

    return [offset for offset in these if not has(offset)]


def _some(offsets: Sequence[int]) -> str:
    shown = ", ".join(map(str, offsets[:5]))
    return (
        f"event{'s' if len(offsets) > 1 else ''} {shown}{f' and {len(offsets) - 5:,} more' if len(offsets) > 5 else ''}"
    )
