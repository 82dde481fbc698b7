"""The metrics of `newswire serve`, and the count of its answers.

Channels are not labels: there may be millions. The console shows those.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newswire.delivery.problem import Problem
from newswire.hub.presence.roster import KINDS
from newswire.serving.metrics import Family
from newswire.serving.stats import ServerStats

PUBLISH_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
OUTCOMES: Final = ("opened", "denied", "invalid", "limited", "unavailable", "failed")
FAMILIES: Final = (
    Family("published", "Events stored for publish requests."),
    Family("delivered", "Events given to streams, counted once for each."),
    Family("pages_read", "Pages read from the log for streams behind the window."),
    Family("connects", "Requests for a stream, by what came of them.", labels=("outcome",), values=OUTCOMES),
    Family("refused", "Streams refused because the server had as many as it may."),
    Family("subscribers", "Open streams.", "gauge"),
    Family("stalled", "Open streams whose client takes nothing now.", "gauge"),
    Family("presence_members", "Members with a stream in a process, over all channels that have members.", "gauge"),
    Family("presence_visitors", "Streams there that have no member's name.", "gauge"),
    Family("presence_changes", "Changes of members that were stored.", labels=("change",), values=KINDS),
    Family("window_events", "Events that the windows hold in memory.", "gauge"),
    Family("window_bytes", "Memory that the windows hold, in bytes, roughly.", "gauge"),
    Family("http_requests", "Answers, by route, method and status.", labels=("route", "method", "status")),
    Family("publish_seconds", "Publish requests, from their head to the answer, stored.", "histogram"),
)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "OPTIONS"})


def outcome_of(problem: Problem | None) -> str:
    """What came of a request for a stream that got this answer; None: a fault of the server's."""
    if problem is None:
        return "failed"
    if problem.status == 429 or problem.code == "too_many_streams":
        return "limited"
    if problem.status in (401, 403):
        return "denied"
    return "unavailable" if problem.status >= 500 else "invalid"


class CountRequests:
    """Counts answers by route, method and status. Messages pass through as they are, so streams go their direct way."""

    def __init__(self, app: ASGIApp, stats: ServerStats) -> None:
        self.app = app
        self._counts = stats.counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        await self.app(scope, receive, self.counted(scope, send))

    def counted(self, scope: Scope, send: Send) -> Send:
        """A `send` that counts the answer."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.count(scope, message["status"])
            await send(message)

        return counted

    def count(self, scope: Scope, status: int) -> None:
        """Count one answer."""
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._counts[f"http_requests {route} {method} {status}"] += 1
