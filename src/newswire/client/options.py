"""The settings of an event source, with defaults that suit a process that runs for months.

Each group of settings is one frozen dataclass, and `Options` holds them all. Users make them; both sources and the
protocol read them. Only the `Clock` does anything: the sources take time and random numbers from it, so that a test can
give another one (`newswire.testing.FakeClock`).
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from newswire.client.backoff import Backoff
from newswire.errors import NewswireError
from newswire.validate import (
    check_callables,
    check_flag,
    check_flags,
    check_kind,
    check_not_negative,
    check_positive,
    shown,
)
from newswire.wire.event import Event


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a source gives up, and how much data it takes.

    Args:
        attempts: after this many attempts in a row without an event, `TooManyAttempts` is raised. None means no limit,
            as in the standard. An attempt that only opens a stream counts too.
        without_progress: after this many seconds without an event, the source makes no further attempt and raises
            `TooManyAttempts`.
        redirects: how many redirects one attempt follows; the Fetch standard has 20.
        max_line: the longest line, in bytes. A longer one raises `DecodeLimitExceeded`.
        max_event: the most bytes of data lines in one event.

    Raises:
        ValueError: one is out of its range.
    """

    attempts: int | None = None
    without_progress: float | None = None
    redirects: int = 20
    max_line: int = 16 * 2**20
    max_event: int = 16 * 2**20

    def __post_init__(self) -> None:
        check_positive(self, "attempts", none="for no limit", whole=True)
        check_not_negative(self, "seconds", "without_progress", none=True)
        check_not_negative(self, "redirects", "redirects", whole=True)
        check_positive(self, "max_line", "max_event", whole=True)


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long a source waits for the other side, in seconds. None means for ever.

    Args:
        connect: for a connection (each address), and for a slot in a client's pool. None means as long as `response`.
        response: for the head of the response, after the request is sent. Language models can take a minute.
        inactivity: for the next byte of an open stream; comments count. Then the source reconnects. Make it longer than
            the time between the server's heartbeats, but not endless: a peer that lost its power sends nothing more.
    """

    connect: float | None = 10.0
    response: float | None = 120.0
    inactivity: float | None = 300.0

    def __post_init__(self) -> None:
        check_positive(self, "connect", "response", "inactivity", none="to wait for ever")


@dataclass(frozen=True, kw_only=True)
class Resume:
    """How a source goes on after its connection breaks.

    Args:
        reconnect: if False, there is one attempt, which follows redirects, and asks a function of yours for other
            headers after a 401. Whatever keeps it from opening the stream is raised, a server that says "not now" too;
            the end of the stream ends the loop; and a broken connection is an error.
        query: also send the cursor in this query parameter, for servers that don't read `Last-Event-ID`, and for ids
            that no header can carry. The rest of the query stays as it is, to the byte.
        idempotent: whether the request may be sent again as it is, with its body and the cursor. None means yes for
            GET, HEAD, OPTIONS and QUERY, and no for other methods. If not, the source goes on with GET once it has an
            id, or a resume address from `Location` or `Content-Location`; without either it raises `NotResumable`. A
            request that the server can't have taken is always sent again: one without a connection, or one that was
            answered with 429 or 503 and `Retry-After`.
    """

    reconnect: bool = True
    query: str | None = None
    idempotent: bool | None = None

    def __post_init__(self) -> None:
        check_flags(self, "reconnect")
        if self.query is not None:
            check_kind("query", self.query, str)
        if self.idempotent is not None:
            check_flag("idempotent", self.idempotent)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The head of the response that opened a stream.

    Attributes:
        url: the address that answered, after redirects.
        status: the status code.
        headers: the header fields, names in lower case.
    """

    url: str
    status: int
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """The first value of a header field, or None."""
        name = name.lower()
        return next((value for field, value in self.headers if field == name), None)


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Plain functions that the source calls when something happens. They run where the source is iterated, and must not
    block.

    Args:
        open: a stream is open.
        error: an attempt or a connection failed. The second argument says in how many seconds the next attempt follows;
            if it is None, none follows and the error is raised. Without this hook, failures that lead to another
            attempt are logged as warnings.
        gap: the server reports missing events (`newswire.gap`). It is called whatever `on_gap` is.
        goodbye: the server stops, and asks its clients to come back soon (`newswire.goodbye`).
        disconnect: an open stream is over. The first argument is the error that broke it, or None if it ended in order.
            The second says in how many seconds the source reads it again; None if it doesn't. (The standard fires
            `error` in both cases.)
        comment: the stream has a comment; the argument is its text.
        raw: bytes of the stream came; the argument is these bytes, before they are decoded.
        bad_payload: `json()` left out an event whose data doesn't fit the model. Without this hook, a warning is
            logged.
    """

    open: Callable[[Opened], None] | None = None
    error: Callable[[NewswireError, float | None], None] | None = None
    gap: Callable[[Event], None] | None = None
    goodbye: Callable[[Event], None] | None = None
    disconnect: Callable[[NewswireError | None, float | None], None] | None = None
    comment: Callable[[str], None] | None = None
    raw: Callable[[bytes], None] | None = None
    bad_payload: Callable[[NewswireError], None] | None = None

    def __post_init__(self) -> None:
        names = ("open", "error", "gap", "goodbye", "disconnect", "comment", "raw", "bad_payload")
        check_callables(self, *names)


class Clock(Protocol):
    """Where a source gets time and random numbers."""

    def now(self) -> float:
        """Seconds since some moment. They never go back."""
        ...

    def chance(self) -> float:
        """A random number, at least 0 and less than 1."""
        ...

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Block the thread for `seconds`, or until `stop` is set."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` in the event loop."""
        ...


class SystemClock:
    """The clock of the system."""

    def now(self) -> float:
        return time.monotonic()

    def chance(self) -> float:
        return random.random()

    def wait(self, seconds: float, stop: threading.Event) -> None:
        stop.wait(min(seconds, threading.TIMEOUT_MAX))  # a server may ask for more, and `Backoff.longest` allow it

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, kw_only=True)
class Options:
    """All settings of an event source.

    Args:
        backoff: delays between attempts.
        limits: when to give up, and how much data to take.
        timeouts: how long to wait for the other side.
        resume: how to go on after a connection breaks.
        hooks: functions that are called when something happens.
        on_gap: `yield` gives the `newswire.gap` event like any other; `raise` raises `EventsLost`.
        clock: where time and random numbers come from; for tests.
    """

    backoff: Backoff = field(default_factory=Backoff)
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    resume: Resume = field(default_factory=Resume)
    hooks: Hooks = field(default_factory=Hooks)
    on_gap: Literal["yield", "raise"] = "yield"
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        check_kind("backoff", self.backoff, Backoff)
        check_kind("limits", self.limits, Limits)
        check_kind("timeouts", self.timeouts, Timeouts)
        check_kind("resume", self.resume, Resume)
        check_kind("hooks", self.hooks, Hooks)
        if not callable(getattr(self.clock, "now", None)):
            raise TypeError(f"clock is a Clock, not {shown(self.clock)}")
        if self.on_gap not in ("yield", "raise"):
            raise ValueError(f"on_gap is 'yield' or 'raise', not {self.on_gap!r:.60}")
