"""Which retention counts for a channel. Used by every log that removes events itself."""

from __future__ import annotations

import re
from typing import Final

from newswire.log.base import Retention, RetentionRules
from newswire.log.channels import check_pattern, compile_pattern

KEEP_ALL: Final = Retention()

# What a log keeps that was made from a URL, has no bound of its own and was given no retention. It is for the channels
# of applications: the pattern `>` matches no internal channel, and whoever writes to those removes what is over.
DEFAULT_RETENTION: Final = Retention(max_age=7 * 86400)


class Rules:
    """The retention rules of a log: the first pattern that matches a channel counts; no match keeps everything.

    Attributes:
        max_age, max_events, max_bytes: the limits that any rule has.
    """

    def __init__(self, rules: RetentionRules) -> None:
        if rules is None:
            rules = {}
        elif isinstance(rules, Retention):
            rules = {">": rules}
        self._rules: list[tuple[re.Pattern[str], Retention]] = [
            (compile_pattern(check_pattern(pattern)), retention) for pattern, retention in rules.items()
        ]
        found = [rule for _, rule in self._rules]
        self._text = ", ".join(f"{pattern!r}: {rule}" for pattern, rule in rules.items() if rule != KEEP_ALL)
        self.max_age = {rule.max_age for rule in found if rule.max_age is not None}
        self.max_events = {rule.max_events for rule in found if rule.max_events is not None}
        self.max_bytes = {rule.max_bytes for rule in found if rule.max_bytes is not None}

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
