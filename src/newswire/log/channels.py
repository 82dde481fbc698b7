"""Which channels: names, patterns, and the rules for both.

A channel's name is tokens joined by dots: `orders.eu.42`. Names are made of what users send, so a str is a name and
nothing else: only a `Pattern` has wildcards, and `channel` makes a safe name of any text.

In a pattern, `*` stands for exactly one token and `>`, at the end, for one or more: `orders.*` matches `orders.eu` but
not `orders.eu.42`; `orders.>` matches both; `>` matches every channel. (The rules are NATS's, so that a pattern means
the same on every log.) A name may have any printable characters but white space, `*`, `>` and `/`; at most 255 bytes of
UTF-8.

Channels whose name begins with `$` belong to what is built upon the hub, such as runs. A pattern matches them only if
it begins with that same token: `>` and `*.x` don't (the rule is MQTT's for its `$SYS`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

from newswire.errors import InvalidChannel
from newswire.validate import check_list

MAX_CHANNEL_BYTES: Final = 255  # fits a NATS subject, a Redis key and an index row without a second thought
_MAX_TOKEN: Final = 80  # bytes of a token that `channel` makes: three fit a name
# What `channel` escapes: its own mark, dots, and all that a name can't have or that means something in a name.
_UNSAFE: Final = re.compile(r"[~.$\s/*>\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_FORBIDDEN: Final = re.compile(r"[\s/*>\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_OF_ANY_TEXT: Final = "newswire.channel('room', text) makes a name of any text"


def check_channel(name: str) -> str:
    """Return `name` if it can name a channel.

    Raises:
        InvalidChannel: it is empty, too long, has an empty token or a forbidden character.
    """
    _check_tokens(name)
    bad = _FORBIDDEN.search(name)
    if bad is not None:
        hint = "wildcards are for subscribing, as in Pattern('orders.*')" if bad[0] in "*>" else _OF_ANY_TEXT
        raise InvalidChannel(name, f"channel {name[:100]!r} has the forbidden character {bad[0]!r}; {hint}")
    return name


class Pattern(str):
    """Many channels: a name with wildcards, as in `Pattern("orders.*")` or `Pattern("orders.>")`.

    Args:
        text: tokens joined by dots; `*` stands for one token, `>`, at the end, for one or more. Without a wildcard it
            matches the one channel of that name.

    Raises:
        InvalidChannel: a wildcard is not a whole token, `>` is not the last one, or a name rule is broken.

    Never make a pattern from text that a user sent: `Pattern(f"room.{room}")` is every room for a user who sends `*`.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Pattern:
        return super().__new__(cls, check_pattern(text))

    def __repr__(self) -> str:
        return f"Pattern({str(self)!r})"


def channel(*parts: object) -> str:
    """Make a channel's name of parts that may come from users: `channel("user", user_id)`.

    Each part becomes one token of the name, whatever is in it: characters that a token can't have are escaped as `~2a`
    (their UTF-8 bytes in hex), so that different parts give different names and no part is a wildcard, a second token
    or an internal channel. A part of more than 80 bytes keeps its beginning and ends in a hash of all of it.

    Args:
        parts: texts, numbers, UUIDs: whatever `str` makes a text of. An Enum is its value.

    Returns:
        a name; pure ASCII letters, digits, `-` and `_` stay as they are.

    Raises:
        InvalidChannel: there are no parts, or so many that the name is longer than 255 bytes.
        TypeError: a part is None or bytes: all users without an id would share one channel. Or it is a function, or an
            object that has no text of its own, so each process would make another name of it.
    """
    return check_channel(".".join(_token(_part(part)) for part in parts))


def _part(part: object) -> str:
    if isinstance(part, Enum):
        return _part(part.value)
    if part is None or isinstance(part, (bytes, bytearray, memoryview)):
        raise TypeError(f"a part of a channel's name is a text or has one, and is not {type(part).__name__}")
    kind: Any = type(part)
    if callable(part) or (kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__):  # its place in memory
        raise TypeError(f"a part of a channel's name is a text or has one, and a {kind.__name__} has none: give its id")
    return str(part)


def _token(text: str) -> str:
    token = _UNSAFE.sub(_escape, text) or "~"
    encoded = token.encode()
    if len(encoded) <= _MAX_TOKEN:
        return token
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{encoded[: _MAX_TOKEN - 34].decode('utf-8', 'ignore')}~~{digest}"


def _escape(found: re.Match[str]) -> str:
    return "".join(f"~{byte:02x}" for byte in found[0].encode("utf-8", "surrogatepass"))


def name_or_pattern(text: str) -> str:
    """What a query or a setting means, where wildcards are allowed by design: a `Pattern` if it has one, else a name.

    Raises:
        InvalidChannel: it is neither.
    """
    return Pattern(text) if "*" in text or ">" in text else check_channel(text)


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
        raise InvalidChannel(name, f"a channel is a str, and each is an argument of its own: not {type(name).__name__}")
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


def covers(pattern: str, other: str) -> bool:
    """Whether every channel of `other` is one of `pattern`. Both are names or patterns whose form was checked.

    A channel that begins with `$` is covered only by a pattern that begins with that same token, as everywhere.
    """
    if is_internal(other) and pattern.partition(".")[0] != other.partition(".")[0]:
        return False
    have, want = pattern.split("."), other.split(".")
    for index, token in enumerate(have):
        if index == len(want):
            return False  # `a.b` is no part of `a`, nor `a.>` of `a`
        if token == ">":
            return True  # the last one: whatever follows, at least one token
        if want[index] == ">" or (token != "*" and token != want[index]):
            return False
    return len(have) == len(want)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a checked pattern to a regular expression to `fullmatch` channel names with."""
    wild = {"*": r"[^.]+", ">": r".+"}
    parts = [wild.get(token) or re.escape(token) for token in pattern.split(".")]
    return re.compile(r"(?!\$)" * (pattern[0] in "*>") + r"\.".join(parts), re.DOTALL)


_NONE: Final[frozenset[str]] = frozenset()  # shared: most sets have no patterns, and one of its own takes 216 bytes


class Channels:
    """A set of channels: names (each str) and patterns (each `Pattern`). A value: hashable, equal by content.

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
            TypeError: it is one text, whose characters would be the channels.
        """
        if isinstance(channels, str):
            raise TypeError(f"channels is a list of names and patterns, not {str(channels)!r:.60}")
        check_list("channels", channels)
        names: set[str] = set()
        patterns: set[str] = set()
        for each in channels:
            if isinstance(each, Pattern):
                (patterns if "*" in each or ">" in each else names).add(str(each))
            else:
                names.add(check_channel(each))
        if not names and not patterns:
            raise InvalidChannel("", "name at least one channel")
        self.patterns = frozenset(patterns) if patterns else _NONE
        self.names = frozenset(names)
        self._regex: list[re.Pattern[str]] | None = None  # made when first needed: 100 µs each, and a KB of memory
        self._hash = hash((self.names, self.patterns))

    def __contains__(self, channel: str) -> bool:
        if not self.patterns:
            return channel in self.names
        if self._regex is None:
            self._regex = [compile_pattern(pattern) for pattern in sorted(self.patterns)]
        return channel in self.names or any(regex.fullmatch(channel) for regex in self._regex)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channels) and (self.names, self.patterns) == (other.names, other.patterns)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Channels({[*sorted(self.names), *map(Pattern, sorted(self.patterns))]!r})"

    @property
    def single(self) -> str | None:
        """The one name, if there is just one and no pattern."""
        return next(iter(self.names)) if len(self.names) == 1 and not self.patterns else None
