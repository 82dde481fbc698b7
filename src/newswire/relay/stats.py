"""The numbers of a process's relay, for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from newswire.serving.stats import Histogram

_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)  # seconds


@dataclass(slots=True)
class RelayStats:
    """What this process's relay has done since it began.

    Attributes:
        calls: requests for completions that went to an upstream, by its name and the status of the answer.
        passed: other requests, in the same way.
        first_content: completions by the time from the request to the first content, not to the head.
        tokens: that upstreams wrote: as many as they said, else one for each piece of content.
        streaming_seconds: from the first content to the end, all completions together.
    """

    calls: Counter[tuple[str, int]] = field(default_factory=Counter)
    passed: Counter[tuple[str, int]] = field(default_factory=Counter)
    first_content: Histogram = field(default_factory=lambda: Histogram(_BOUNDS))
    tokens: int = 0
    streaming_seconds: float = 0.0

    def streamed(self, tokens: int, seconds: float) -> None:
        """A completion has ended: so many tokens in so long."""
        self.tokens += tokens
        self.streaming_seconds += seconds
