"""What an engine knows of the server that it is on: whether it can be reached, and which life of the log goes on.

All connections of an engine share one `RemoteServer`. Where a connection can't be made, all calls fail at once until
the next attempt makes sense. A server process that is another one may have lost the newest events, and so may one that
knows less than this process has seen: then the log begins another life, and this tells all that have to know.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Final, Protocol

from newswire.errors import LogError, LogUnavailable
from newswire.log.engine import Span
from newswire.log.position import Lives, parse_lives
from newswire.log.retry import Outage, Retry
from newswire.redact import without_userinfo

logger: logging.Logger = logging.getLogger("newswire.log")

HINT: Final = "the batch may be stored: append it again under the same token, or look"  # with `LogUncertain`


class LinkLost(LogUnavailable):
    """The connection broke after a request was sent: whether the server has served it is not known."""


class Attempts:
    """The attempts of one engine to get to its server: after one that failed, all calls fail for a moment.

    Attributes:
        away: whether the last attempt has failed.
    """

    def __init__(self) -> None:
        self.away: bool = False
        self._outage = Outage("no connection to the log", logger, quiet=True)
        self._retry = Retry(0.05, 2.0)
        self._next_try = 0.0  # until then no one tries to connect
        self._failure: LogError = LogUnavailable("")

    def check_pause(self) -> None:
        """Raise what the last attempt, of whichever connection, failed with, if that was a moment ago."""
        if asyncio.get_running_loop().time() < self._next_try:
            raise copy(self._failure)

    def wait(self) -> float:
        """Seconds until the next attempt makes sense."""
        return max(self._next_try - asyncio.get_running_loop().time(), 0.0) + 0.001

    def pause(self, failure: LogError) -> None:
        """An attempt has failed, and calls fail with `failure` until the next one makes sense."""
        self.away = True
        self._failure = copy(failure)  # a traceback would keep what called
        self._next_try = asyncio.get_running_loop().time() + self._retry.next()
        self._outage.failed(failure)

    def reached(self) -> None:
        """An attempt has succeeded."""
        self.away = False
        self._next_try = 0.0
        self._retry.reset()
        self._outage.ended()


class RemoteServer(Attempts):
    """A server, for one engine.

    Args:
        name: the server's and the log's, for people.
        timeout: seconds to wait for a connection or an answer.
        create: whether to make a log where there is none.

    Attributes:
        epoch: the present life of the log, as far as this process knows; empty: not known yet.
        lives: all of them.
        seen: the newest offset that this process knows of, in that epoch.
        made: whether this process has made the log.
        run: the server process that the newest connection leads to. Where an address leads to another one from now on,
            the server of before may live on: what it acknowledged would be lost. So connections to it are made again.
        on_epoch: called when the epoch has changed.
        refusals: the client library's errors that say that the server refuses what it `asks_for`.
    """

    refusals: tuple[type[Exception], ...]
    asks_for: str

    def __init__(self, name: str, timeout: float, create: bool) -> None:
        super().__init__()
        self.epoch: str = ""
        self.lives: Lives | None = None
        self.seen: int = 0
        self.name = name
        self.timeout = timeout
        self.create = create
        self.made = False
        self.run: str | bytes = ""
        self.on_epoch: Callable[[], object] = lambda: None
        self._lives = ""  # as the server has them

    def failed(self, error: Exception) -> LogUnavailable:
        """A connection could not be made. Returns what to raise."""
        if isinstance(error, LogError):
            failure = error if isinstance(error, LogUnavailable) else LogUnavailable(str(error))
        elif isinstance(error, self.refusals):
            failure = LogUnavailable(f"the server {self.name} refuses {self.asks_for}: {text_of(error)}")
        else:
            failure = LogUnavailable(f"the server {self.name} can't be reached: {text_of(error)}")
        self.pause(LogUnavailable(str(failure)))  # no `LinkLost`: nothing is sent by calls that fail with it
        return failure

    def found(self, epoch: str, latest: int, lives: str) -> None:
        """The log is in this life now."""
        if epoch == self.epoch:
            self.seen = max(self.seen, latest)
            return
        self._lives = lives
        if self.epoch:
            logger.debug("the log on %s has begun another life: it may have lost its newest events", self.name)
        self.lives = Lives(parse_lives(lives))
        self.epoch = epoch
        self.seen = latest
        self.on_epoch()

    def adopt(self, epoch: str, latest: int, lives: str) -> None:
        """This process has made the log a copy of another one, up to `latest`."""
        if epoch != self.epoch:
            self.epoch = ""  # no events were lost
        self.found(epoch, latest, lives)


class Makes(Protocol):
    """What finds the log.

    Attributes:
        create: whether it makes one where there is none.
        made: whether it has made one.
    """

    create: bool
    made: bool


async def make_log(finder: Makes, span: Callable[[], Awaitable[Span]], what: str, place: str) -> str:
    """Make a log where there is none, also if its URL says that the first use must not make it.

    Args:
        finder: finds the log in `span`.
        span: the engine's.
        what: what is made.
        place: where, with a preposition.

    Returns:
        what was done, in a sentence.
    """
    create, finder.create = finder.create, True
    try:
        epoch = (await span()).epoch
    finally:
        finder.create = create
    return f"{f'made {what}' if finder.made else 'the log is there'} {place}, in its life {epoch}"


def no_log(place: str) -> LogUnavailable:
    """There is no log, and none is to be made."""
    return LogUnavailable(f"there is no log {place}, and it is not to be made here: run `newswire log init`")


def text_of(error: BaseException) -> str:
    """What a server or the system says, in one line, without the passwords of URLs."""
    text = str(getattr(error, "message", None) or error)
    if not text and isinstance(error, TimeoutError):
        return "no answer"
    return without_userinfo(" ".join(text.split()))[:200] or type(error).__name__
