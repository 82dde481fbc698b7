"""What a log still knows of channels whose names it forgot. Used by every log that forgets channels.

A log may see a million channels once. It can't keep a row for each for ever, so it forgets those that have had nothing
left for longest, and keeps of them one number for each *shape*: the newest offset that a channel of that shape lost.
The shape of `user.42.inbox` is `user.*.*`: the first token, and how many follow. So subscribers of other channels
don't hear of a loss that was not theirs, and a subscriber of all that have the shape hears of it for certain. In
between (one user's channel, when some user's was forgotten) there is doubt; see docs/explain/gaps.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from newswire.log.channels import Channels, is_internal

_SHAPES: Final = 1000  # with a first token of their own; beyond, any first token is `*`
_ANY_INTERNAL: Final = "$"  # what `*` is not: some first token that begins with `$`
# What a log of an earlier version forgot without a shape.
UNKNOWN: Final = ">"


class Forgotten:
    """The newest offset that forgotten channels lost, by shape."""

    def __init__(self, shapes: Mapping[str, int] = {}) -> None:
        self.shapes = dict(shapes)

    def __bool__(self) -> bool:
        return bool(self.shapes)

    def add(self, channel: str, lost: int) -> None:
        """Forget a channel that lost everything up to offset `lost`."""
        shape, wide = _shapes_of(channel)
        if shape not in self.shapes and len(self.shapes) >= _SHAPES:
            shape = wide
        self.shapes[shape] = max(self.shapes.get(shape, 0), lost)

    def doubt(self, names: Iterable[str]) -> int:
        """The newest offset that one of these channels may have lost, if it was forgotten."""
        shapes = self.shapes
        if not shapes:
            return 0
        found = (shapes.get(shape, 0) for name in names for shape in _shapes_of(name))
        return max(shapes.get(UNKNOWN, 0), max(found, default=0))

    def of_patterns(self, channels: Channels) -> tuple[int, int]:
        """The newest offset that forgotten channels lost: of those that surely match a pattern of `channels`, and of
        those that may."""
        lost = doubt = 0
        for shape, offset in self.shapes.items():
            if offset <= lost:
                continue
            tokens = shape.split(".")
            matches = [_match(pattern.split("."), tokens) for pattern in channels.patterns]
            if any(matches):
                lost = offset
            elif None in matches:
                doubt = max(doubt, offset)
        return lost, doubt


def _shapes_of(channel: str) -> tuple[str, str]:
    """The shape of a channel, and that with any first token."""
    first, *rest = channel.split(".")
    tail = ".*" * len(rest)
    if is_internal(channel):
        return first + tail, _ANY_INTERNAL + tail
    return (first if rest else "*") + tail, "*" + tail


def _match(pattern: list[str], shape: list[str]) -> bool | None:
    """Whether the channels of a shape match a pattern: all, none, or perhaps some (None)."""
    if shape == [UNKNOWN]:
        return None
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
