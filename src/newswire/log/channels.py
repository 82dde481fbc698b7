"""Which channels: names, patterns, and the rules for both.

A channel's name is tokens joined by dots: `orders.eu.42`. In a pattern, `*` stands for exactly one token and `>`,
at the end, for one or more: `orders.*` matches `orders.eu` but not `orders.eu.42`; `orders.>` matches both; `>`
matches every channel. (The rules are NATS's, so that a pattern means the same on every log.) A name may have any
printable characters but white space, `*`, `>` and `/`; at most 255 bytes of UTF-8.

Channels whose name begins with `$` belong to what is built upon the hub, such as runs. A pattern matches them only if
it begins with that same token: `>` and `*.x` don't (the rule is MQTT's for its `$SYS`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from newswire.errors import InvalidChannel

MAX_CHANNEL_BYTES: Final = 255  # fits a NATS subject, a Redis key and an index row without a second thought
_FORBIDDEN: Final = re.compile(r"[\s/*>\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_channel(name: str) -> str:
    """Return `name` if it can name a channel.

    Raises:
        InvalidChannel: it is empty, too long, has an empty token or a forbidden character.
    """
    _check_tokens(name)
    bad = _FORBIDDEN.search(name)
    if bad is not None:
        hint = "; to publish, name one channel without wildcards" if bad[0] in "*>" else ""
        raise InvalidChannel(name, f"channel {name[:100]!r} has the forbidden character {bad[0]!r}{hint}")
    return name


def is_pattern(text: str) -> bool:
    """Whether `text` has a wildcard token."""
    return "*" in text or ">" in text


def check_pattern(pattern: str) -> str:
    """Return `pattern` if it is a channel name or a well-formed pattern.

    Raises:
        InvalidChannel: a wildcard is not a whole token, `>` is not the last one, or a name rule is broken.
    """
    _check_tokens(pattern)
    tokens = pattern.split(".")
    for index, token in enumerate(tokens):
        if token == "*" or (token == ">" and index == len(tokens) - 1):
            continue
        bad = _FORBIDDEN.search(token)
        if bad is not None and bad[0] in "*>":
            raise InvalidChannel(
                pattern,
                f"pattern {pattern[:100]!r}: '*' must be a whole token and '>' the whole last token, "
                "as in 'orders.*' and 'orders.>'",
            )
        if bad is not None:
            raise InvalidChannel(pattern, f"channel {pattern[:100]!r} has the forbidden character {bad[0]!r}")
    return pattern


def _check_tokens(name: str) -> None:
    if not isinstance(name, str):
        raise InvalidChannel(name, f"a channel is a str, not {type(name).__name__}")
    if not name:
        raise InvalidChannel(name, "a channel's name can't be empty")
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > MAX_CHANNEL_BYTES:
        raise InvalidChannel(name, f"a channel's name has {size} bytes; at most {MAX_CHANNEL_BYTES} are allowed")
    if "" in name.split("."):
        raise InvalidChannel(name, f"channel {name[:100]!r} has an empty token: check its dots")


def is_internal(channel: str) -> bool:
    """Whether a channel or pattern belongs to what is built upon the hub, and is no business of HTTP clients."""
    return channel.startswith("$")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a checked pattern to a regular expression to `fullmatch` channel names with."""
    wild = {"*": r"[^.]+", ">": r".+"}
    parts = [wild.get(token) or re.escape(token) for token in pattern.split(".")]
    return re.compile(r"(?!\$)" * (pattern[0] in "*>") + r"\.".join(parts), re.DOTALL)


class Channels:
    """A set of channels: names and patterns. A value: hashable, equal by content, never changed.

    Attributes:
        names: the exact names.
        patterns: the patterns, checked.
    """

    __slots__ = ("_hash", "_regex", "names", "patterns")

    names: frozenset[str]
    patterns: frozenset[str]

    def __init__(self, channels: Iterable[str]) -> None:
        """Sort `channels` into names and patterns.

        Raises:
            InvalidChannel: one of them breaks the rules, or there are none.
        """
        checked = {check_pattern(channel) for channel in channels}
        if not checked:
            raise InvalidChannel("", "name at least one channel")
        self.patterns = frozenset(channel for channel in checked if is_pattern(channel))
        self.names = frozenset(checked - self.patterns)
        self._regex = [compile_pattern(pattern) for pattern in sorted(self.patterns)]
        self._hash = hash((self.names, self.patterns))

    def __contains__(self, channel: str) -> bool:
        return channel in self.names or any(regex.fullmatch(channel) for regex in self._regex)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channels) and (self.names, self.patterns) == (other.names, other.patterns)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Channels({sorted(self.names | self.patterns)!r})"

    @property
    def single(self) -> str | None:
        """The one name, if there is just one and no pattern."""
        return next(iter(self.names)) if len(self.names) == 1 and not self.patterns else None
