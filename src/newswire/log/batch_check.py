"""What a batch must be that a log can store."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from newswire.errors import InvalidEvent, LimitExceeded
from newswire.log.channels import check_channel
from newswire.log.engine import Batch, Limits

_NAMES_KNOWN: Final = 100_000  # channel names whose check is remembered
_TOKEN_CHARACTERS: Final = 256


class BatchCheck:
    """Checks batches.

    Args:
        limits: the engine's.
        known: names of channels that need no other check; None: those that were checked are remembered here.
    """

    def __init__(self, limits: Limits, known: Container[str] | None) -> None:
        self._limits = limits
        self._checked: set[str] = set()
        self._known: Container[str] = self._checked if known is None else known
        self._any_size = limits.nul and limits.batch_events is limits.batch_bytes is None

    def check(self, batch: Batch) -> None:
        """Raise what `Log.append` raises for it; else set `Batch.sizes`."""
        most, known = self._limits.event_bytes, self._known
        sizes = []
        for channel, event in batch.events:
            if type(channel) is not str or channel not in known:
                check_channel(channel)
                if known is self._checked:
                    if len(self._checked) >= _NAMES_KNOWN:
                        self._checked.clear()
                    self._checked.add(str(channel))
            data, _, id_, retry, _ = event
            if id_ is not None:
                raise InvalidEvent("id", "the log gives events their ids: publish without one")
            if retry is not None:
                raise InvalidEvent("retry", "retry is a setting of a stream and is not stored: publish without it")
            size = len(data) if data.isascii() else len(data.encode())
            if size > most:
                hint = "store it elsewhere and publish where it is"
                raise LimitExceeded("an event's size in bytes", limit=most, actual=size, hint=hint)
            sizes.append(size)
        batch.sizes = sizes
        if not self._any_size or batch.token is not None:
            self._check_whole(batch)

    def _check_whole(self, batch: Batch) -> None:
        limits, sizes = self._limits, batch.sizes
        if not limits.nul and any("\0" in event.data for _, event in batch.events):
            raise InvalidEvent("data", "this log can't store the character NUL: publish without it")
        if limits.batch_events is not None and len(sizes) > limits.batch_events:
            raise LimitExceeded("the number of events in a batch", limit=limits.batch_events, actual=len(sizes))
        if limits.batch_bytes is not None and sum(sizes) > limits.batch_bytes:
            raise LimitExceeded("a batch's size in bytes", limit=limits.batch_bytes, actual=sum(sizes))
        if batch.token is not None and not 0 < len(batch.token) <= _TOKEN_CHARACTERS:
            raise ValueError(f"a token has 1 to {_TOKEN_CHARACTERS} characters, not {len(batch.token)}")
