"""What a log still knows of channels whose names it forgot. Used by every log that forgets channels.

A log may see a million channels once. It can't keep a row for each for ever, so it forgets those that have had nothing
left for longest, and keeps of them one number for each *shape*: the newest offset that a channel of that shape lost.
The shape of `user.42.inbox` is `user.*.*`: the first token, and how many follow. So subscribers of other channels
don't hear of a loss that was not theirs, and a subscriber of all that have the shape hears of it for certain. In
between (one user's channel, when some user's was forgotten) there is doubt; see docs/explain/gaps.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from newswire.log.channels import Channels, is_internal

_SHAPES: Final = 1000  # with a first token of their own; beyond, any first token is `*`
_ANY_INTERNAL: Final = "$"  # what `*` is not: some first token that begins with `$`
EMPTY_KEPT: Final = 100_000
"""Channels without events whose names a log keeps that is on a disk."""

# What a log of an earlier version forgot without a shape.
UNKNOWN: Final = ">"

_Shape: TypeAlias = tuple[str, int]  # the first token, and how many follow


class Forgotten:
    """The newest offset that forgotten channels lost, by shape."""

    def __init__(self, shapes: Mapping[str, int] = {}) -> None:
        self._unknown = shapes.get(UNKNOWN, 0)
        self._shapes = {_shape_of(shape): offset for shape, offset in shapes.items() if shape != UNKNOWN}

    def __bool__(self) -> bool:
        return bool(self._shapes) or self._unknown > 0

    @property
    def shapes(self) -> dict[str, int]:
        """What `Forgotten` takes."""
        found = {first + ".*" * rest: offset for (first, rest), offset in self._shapes.items()}
        return found | {UNKNOWN: self._unknown} if self._unknown else found

    def add(self, channels: Iterable[tuple[str, int]]) -> None:
        """Forget channels, each of which lost everything up to an offset."""
        shapes = self._shapes
        for channel, lost in channels:
            shape = _shape_of(channel)
            known = shapes.get(shape)
            if known is None and len(shapes) >= _SHAPES:
                shape = _widened(shape)
                known = shapes.get(shape)
            if known is None or known < lost:
                shapes[shape] = lost

    def doubt(self, channel: str) -> int:
        """The newest offset that this channel may have lost, if it was forgotten."""
        shapes = self._shapes
        shape = _shape_of(channel)
        found = shapes.get(shape, 0)
        if len(shapes) >= _SHAPES:
            found = max(found, shapes.get(_widened(shape), 0))
        return max(found, self._unknown)

    def of_patterns(self, channels: Channels) -> tuple[int, int]:
        """The newest offset that forgotten channels lost: first, where a channel surely matches a pattern; then, where
        it may."""
        lost, doubt = 0, self._unknown
        for (first, rest), offset in self._shapes.items():
            if offset <= lost:
                continue
            matches = [_match(pattern.split("."), [first, *["*"] * rest]) for pattern in channels.patterns]
            if any(matches):
                lost = offset
            elif None in matches:
                doubt = max(doubt, offset)
        return lost, doubt


def _shape_of(channel: str) -> _Shape:
    rest = channel.count(".")
    if rest:
        return channel[: channel.index(".")], rest
    return (channel if is_internal(channel) else "*"), 0


def _widened(shape: _Shape) -> _Shape:
    """The shape with any first token."""
    return (_ANY_INTERNAL if is_internal(shape[0]) else "*"), shape[1]


def _match(pattern: list[str], shape: list[str]) -> bool | None:
    """Whether the channels of a shape match a pattern: all, none, or perhaps some (None)."""
    open_end = pattern[-1] == ">"
    if len(shape) < len(pattern) if open_end else len(shape) != len(pattern):
        return False
    certain = True
    if shape[0].startswith("$"):
        if not pattern[0].startswith("$"):
            return False
        certain = shape[0] != _ANY_INTERNAL
    for wanted, token in zip(pattern, shape, strict=False):
        if wanted in ("*", ">") or wanted == token:
            continue
        if token not in ("*", _ANY_INTERNAL):
            return False
        certain = False
    return certain or None
