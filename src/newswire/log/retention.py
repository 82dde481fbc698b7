"""Which retention counts for a channel. Used by every log that keeps the books itself."""

from __future__ import annotations

import re
from typing import Final

from newswire.log.base import Retention, RetentionRules
from newswire.log.channels import check_pattern, compile_pattern

KEEP_ALL: Final = Retention()


class Rules:
    """The retention rules of a log: the first pattern that matches a channel counts; no match keeps everything."""

    def __init__(self, rules: RetentionRules) -> None:
        if rules is None:
            rules = {}
        elif isinstance(rules, Retention):
            rules = {">": rules}
        self._rules: list[tuple[re.Pattern[str], Retention]] = [
            (compile_pattern(check_pattern(pattern)), retention) for pattern, retention in rules.items()
        ]

    def __bool__(self) -> bool:
        """Whether anything is ever removed."""
        return any(rule != KEEP_ALL for _, rule in self._rules)

    def of(self, channel: str) -> Retention:
        """What counts for `channel`; `KEEP_ALL` itself if nothing limits it."""
        for pattern, retention in self._rules:
            if pattern.fullmatch(channel):
                return KEEP_ALL if retention == KEEP_ALL else retention
        return KEEP_ALL
