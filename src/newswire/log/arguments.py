"""Checks the arguments of `Log`, once for all engines.

An engine that meets an argument of another kind fails as if its storage had failed, and callers would try again. So
`Log` refuses such arguments before the engine sees them: by name, and nothing is stored. Checking single events is on
the way of each `Hub.publish`, and costs next to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from typing import Final

from newswire.errors import InvalidEvent, LimitExceeded
from newswire.log.channels import check_channel
from newswire.log.engine import Batch, Condition, Copied, EngineLimits, Entry, Losses
from newswire.log.position import Lives, check_offset
from newswire.validate import check_kind, check_list, is_number, is_whole, shown
from newswire.wire.event import Event

_NAMES_KNOWN: Final = 100_000  # channel names whose check is remembered
_TOKEN_CHARACTERS: Final = 256
_NO_TOKEN: Final = re.compile("[\x00\ud800-\udfff]")
_LARGEST_PAGE: Final = 2**31 - 1  # what all engines can count to; no page has as many


class BatchCheck:
    """Checks batches.

    Args:
        limits: the engine's.
        known: names of channels that need no other check; None: those that were checked are remembered here.
    """

    def __init__(self, limits: EngineLimits, known: Container[str] | None) -> None:
        self._limits = limits
        self._checked: set[str] = set()
        self._known: Container[str] = self._checked if known is None else known
        self._most = limits.event_bytes
        self._no_nul = not limits.nul
        # Whether an event that may be stored may be stored alone.
        self._alone = limits.batch_bytes is None or limits.batch_bytes >= limits.event_bytes

    def check(self, batch: Batch) -> None:
        """Raise what `Log.append` raises for it; else set `Batch.sizes` and `Batch.size`."""
        check, events = self.check_event, batch.events
        if type(events) is not list:
            check_list("events", events)
            events = batch.events = list(events)
        try:
            batch.sizes = sizes = [check(channel, event) for channel, event in events]
        except (TypeError, ValueError):
            _check_pairs(events)
            raise
        batch.size = sum(sizes)
        if len(sizes) > 1 or not self._alone or batch.token is not None or batch.condition is not None:
            self._check_whole(batch)

    def check_event(self, channel: str, event: Event) -> int:
        """The UTF-8 bytes of an event's data; raises what `Log.append` raises for it."""
        if type(channel) is not str or channel not in self._known:
            self._check_channel(channel)
        if type(event) is not Event:
            check_kind("event", event, Event)
        data = event.data
        if event.id is not None or event.retry is not None or (self._no_nul and "\0" in data):
            raise _not_stored(event)
        size = len(data) if data.isascii() else len(data.encode())
        if size > self._most:
            hint = "store it elsewhere and publish where it is"
            raise LimitExceeded("an event's size in bytes", limit=self._most, actual=size, hint=hint)
        return size

    def check_copied(self, copied: Copied) -> None:
        """Raise what `Log.restore` raises for a part of another log, whose entries nothing else has checked."""
        check_kind("copied", copied, Copied)
        check_offset("through", copied.through)
        check_offset("after", copied.after)
        check_kind("lives", copied.lives, Lives)
        if copied.losses is not None:
            check_kind("losses", copied.losses, Losses)
        check_kind("entries", copied.entries, Sequence)  # an iterator would be used up by this check
        before, through = 0, copied.through
        for entry in copied.entries:
            if type(entry) is not Entry:
                check_kind("entry", entry, Entry)
            offset, channel, event, data, seconds = entry
            if type(offset) is not int or not before < offset <= through:
                check_offset("an entry's offset", offset)
                raise ValueError(f"entries come in order, up to {through:,}, and not {offset:,} after {before:,}")
            before = offset
            if type(channel) is not str or channel not in self._known:
                self._check_channel(channel)
            if event != "message" or type(data) is not str or not data.isascii():
                Event(data, event)  # raises if there is none
            if type(seconds) is not float and not is_number(seconds):
                raise ValueError(f"an entry's time is a number of seconds, not {shown(seconds)}")

    def _check_channel(self, channel: str) -> None:
        check_channel(channel)
        checked = self._checked
        if self._known is checked:
            if len(checked) >= _NAMES_KNOWN:
                checked.clear()
            checked.add(str(channel))

    def _check_whole(self, batch: Batch) -> None:
        limits, sizes = self._limits, batch.sizes
        if limits.batch_events is not None and len(sizes) > limits.batch_events:
            raise LimitExceeded("the number of events in a batch", limit=limits.batch_events, actual=len(sizes))
        if limits.batch_bytes is not None and batch.size > limits.batch_bytes:
            raise LimitExceeded("a batch's size in bytes", limit=limits.batch_bytes, actual=batch.size)
        if batch.token is not None:
            _check_token(batch.token)
        if batch.condition is not None:
            self._check_condition(batch.condition)

    def _check_condition(self, condition: Condition) -> None:
        check_kind("condition", condition, Condition)
        channel, newest, epoch = condition
        if type(channel) is not str or channel not in self._known:
            self._check_channel(channel)
        check_offset("newest", newest)
        check_kind("epoch", epoch, str)


def _check_pairs(events: Sequence[object]) -> None:
    """Raise if something else than pairs is among the events."""
    for each in events:
        if isinstance(each, (str, Event)) or not isinstance(each, Sequence) or len(each) != 2:
            raise TypeError(f"events is a list of pairs, each a channel and an event, and has {shown(each)}")


def _check_token(token: str) -> None:
    check_kind("token", token, str)
    if not 0 < len(token) <= _TOKEN_CHARACTERS:
        raise ValueError(f"a token has 1 to {_TOKEN_CHARACTERS} characters, not {len(token)}")
    if _NO_TOKEN.search(token):
        raise ValueError(f"a token has no NUL and no lone surrogate, which servers can't store: {token[:60]!r}")


def _not_stored(event: Event) -> InvalidEvent:
    if event.id is not None:
        return InvalidEvent("id", "the log gives events their ids: publish without one")
    if event.retry is not None:
        return InvalidEvent("retry", "retry is a setting of a stream and is not stored: publish without it")
    return InvalidEvent("data", "this log can't store the character NUL: publish without it")


def check_page(after: int, limit: int, epoch: str | None) -> int:
    """Check the arguments of `Log.read` and `Log.scan`. Returns how many entries the page may have."""
    check_offset("after", after)
    if not is_whole(limit):
        raise ValueError(f"limit is a whole number of entries, not {shown(limit)}")
    if epoch is not None:
        check_kind("epoch", epoch, str)
    return min(max(limit, 1), _LARGEST_PAGE)


def check_names(channels: Iterable[str]) -> None:
    """Check that these are names. One that breaks the rules is of a channel that has nothing; a pattern is refused."""
    for name in channels:
        if type(name) is not str:
            check_channel(name)
