"""Whether the log can be used, and how far this process is behind it: looked at every two seconds, on any engine.

An engine may wait for its server in silence, and a log without publishers may be wiped without a sign. So the hub
itself asks where the log is. What this finds is the state that operators see; whatever changes it is logged once, also
if several parts of the hub suffer from it (`newswire.log.retry.Outage`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from newswire.errors import EpochChanged, LogError, LogUnavailable, LogUncertain
from newswire.hub.follower import Receiver
from newswire.hub.stats import LogState
from newswire.log.log import Log
from newswire.log.retry import Outage, Retry, SupervisedTask

_LOOK_SECONDS: Final = 2.0
_PUBLISH_SECONDS: Final = 5.0  # how long a publish that failed counts, if none has succeeded since


class LogMonitor:
    """Looks at a log until it is closed.

    Args:
        log: the log.
        receiver: what follows it.
        outage: what all suffer together.
        changed: called if the log is not the one that the receiver knows.

    Attributes:
        latest: the newest offset that the log had at the last look.
    """

    def __init__(self, log: Log, receiver: Receiver, outage: Outage, changed: Callable[[LogError], None]) -> None:
        self.latest: int = receiver.head
        self._log = log
        self._receiver = receiver
        self._outage = outage
        self._changed = changed
        self._publish_failed = 0.0  # when; 0: the last one did not
        self._task = SupervisedTask(self._look, outage, retry=Retry(0.1, 5.0))
        self._task.start()

    @property
    def lag(self) -> int:
        """How many events the log had at the last look that have not come here yet."""
        return max(0, self.latest - self._receiver.head)

    @property
    def state(self) -> LogState:
        """`down`: the log can't be used. `behind`: it can, and older events are still on their way here."""
        return "down" if self._outage.is_on else "behind" if self.lag else "up"

    def publish_failed(self, error: Exception) -> None:
        """A publish got this error."""
        if isinstance(error, (LogUnavailable, LogUncertain)):
            self._publish_failed = time.monotonic()
            self._outage.failed(error, self)

    def published(self) -> None:
        """A publish was stored."""
        if self._publish_failed:
            self._publish_failed = 0.0
            self._outage.ended(self)

    async def close(self) -> None:
        """Stop looking."""
        self._outage.left(self)
        await self._task.close()

    def abandon(self) -> None:
        """The event loop is closed."""
        self._task.abandon()

    async def _look(self) -> None:
        while True:
            if self._task.failure is None:
                await asyncio.sleep(_LOOK_SECONDS)
            head = self._receiver.head
            span = await self._log.span()
            self._task.succeeded()
            if self._publish_failed and time.monotonic() - self._publish_failed > _PUBLISH_SECONDS:
                self.published()  # no publisher tries any more: what is known of the log now is that it answers
            self.latest = span.latest
            if span.epoch != self._receiver.epoch or span.latest < head:
                self._changed(EpochChanged(span.epoch))
