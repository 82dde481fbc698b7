"""What a log keeps of each channel: the rules, whatever the engine. Used by every engine that removes events itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from newswire.counted import counted
from newswire.log.channels import check_pattern, compile_pattern
from newswire.validate import check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which events of a channel are kept. Each limit counts for each channel on its own; None is no limit.

    An event that is over any of the limits is removed soon, whether or not anyone has read it.

    Attributes:
        max_age: keep events for so many seconds.
        max_events: keep the newest so many.
        max_bytes: keep the newest events whose data has together at most so many UTF-8 bytes.
    """

    max_age: float | None = None
    max_events: int | None = None
    max_bytes: int | None = None

    def __str__(self) -> str:
        """The limits as settings have them: `max_age=604800,max_events=1000`."""
        limits = {"max_age": self.max_age, "max_events": self.max_events, "max_bytes": self.max_bytes}
        return ",".join(f"{name}={limit}" for name, limit in limits.items() if limit is not None) or "everything"

    @property
    def in_words(self) -> str:
        """The limits for a person: `for 7 days, at most 1,000 events`."""
        words = [] if self.max_age is None else [f"for {_duration(self.max_age)}"]
        if self.max_events is not None:
            words.append(f"at most {counted(self.max_events, 'event')}")
        if self.max_bytes is not None:
            words.append(f"at most {counted(self.max_bytes, 'byte')}")
        return ", ".join(words) or "everything"

    def __post_init__(self) -> None:
        check_positive(self, "max_age", none="for no limit")
        check_positive(self, "max_events", "max_bytes", none="for no limit", whole=True)


def _duration(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length and seconds % length == 0:
            return counted(seconds // length, unit)
    return counted(seconds, "second")


# One Retention for every channel, or a mapping from channel pattern to Retention: the first that matches counts.
RetentionRules: TypeAlias = Retention | Mapping[str, Retention] | None


KEEP_ALL: Final = Retention()

# What a log keeps that was made from a URL, has no bound of its own and was given no retention. It is for the channels
# of applications: the pattern `>` matches no internal channel, and whoever writes to those removes what is over.
DEFAULT_RETENTION: Final = Retention(max_age=7 * 86400)


def is_over(rule: Retention, events: int, size: int) -> bool:
    """Whether a channel with so many events, of so many bytes, is over a limit of its rule."""
    return (rule.max_events is not None and events > rule.max_events) or (
        rule.max_bytes is not None and size > rule.max_bytes
    )


def surplus(rule: Retention, events: int, size: int, oldest: Iterable[Sequence[int]]) -> list[int]:
    """What a channel has to lose to be within the limits of its rule.

    Args:
        rule: the channel's.
        events: how many it has.
        size: their bytes.
        oldest: the offset and the bytes of its first events, or of some of them.

    Returns:
        offsets.
    """
    found: list[int] = []
    for offset, bytes_ in oldest:
        if not is_over(rule, events, size):
            break
        found.append(offset)
        events -= 1
        size -= bytes_
    return found


class Rules:
    """The retention rules of a log: the first pattern that matches a channel counts; no match keeps everything.

    Attributes:
        in_words: the rules for a person: `each channel for 7 days`; empty: everything is kept.
        max_age, max_events, max_bytes: the limits that any rule has.
    """

    def __init__(self, rules: RetentionRules) -> None:
        if rules is None:
            rules = {}
        elif isinstance(rules, Retention):
            rules = {">": rules}
        given: Any = rules  # anything, where no type checker looks
        if not isinstance(given, Mapping) or not all(isinstance(rule, Retention) for rule in given.values()):
            raise TypeError(f"retention is a Retention, or a mapping from patterns to Retentions, not {given!r:.60}")
        self._rules: list[tuple[re.Pattern[str], Retention]] = [
            (compile_pattern(check_pattern(pattern)), retention) for pattern, retention in rules.items()
        ]
        found = [rule for _, rule in self._rules]
        self._text = "; ".join(f"{pattern}:{rule}" for pattern, rule in rules.items() if rule != KEEP_ALL)
        self.in_words: str = "; ".join(
            f"{'each channel' if pattern == '>' else pattern} {rule.in_words}"
            for pattern, rule in rules.items()
            if (pattern, rule) != (">", KEEP_ALL)
        )
        self.max_age: set[float] = {rule.max_age for rule in found if rule.max_age is not None}
        self.max_events: set[int] = {rule.max_events for rule in found if rule.max_events is not None}
        self.max_bytes: set[int] = {rule.max_bytes for rule in found if rule.max_bytes is not None}

    def __str__(self) -> str:
        return self._text or "everything"

    def __bool__(self) -> bool:
        """Whether anything is ever removed."""
        return any(rule != KEEP_ALL for _, rule in self._rules)

    def of(self, channel: str) -> Retention:
        """What counts for `channel`; `KEEP_ALL` itself if nothing limits it."""
        for pattern, retention in self._rules:
            if pattern.fullmatch(channel):
                return KEEP_ALL if retention == KEEP_ALL else retention
        return KEEP_ALL
