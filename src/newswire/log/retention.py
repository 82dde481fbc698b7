"""Which retention counts for a channel, and how much an event weighs in it. Used by every log."""

from __future__ import annotations

import re

from newswire.log.base import Retention, RetentionRules
from newswire.log.channels import check_pattern, compile_pattern
from newswire.wire.event import Event

_KEEP_ALL = Retention()


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
        return any(rule != _KEEP_ALL for _, rule in self._rules)

    def of(self, channel: str) -> Retention:
        """What counts for `channel`."""
        for pattern, retention in self._rules:
            if pattern.fullmatch(channel):
                return retention
        return _KEEP_ALL


def weight(event: Event) -> int:
    """The size that `max_bytes` and `Span.bytes` count: UTF-8 bytes of data and type."""
    data = event.data
    return (len(data) if data.isascii() else len(data.encode())) + len(event.event)
