"""What can be set on an event source, with defaults that suit a process that runs for months.

Values only. Each group is one frozen dataclass; `Options` holds them. Both faces and the protocol read them.
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
from newswire.wire.event import Event


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a source gives up, and how much it takes.

    Args:
        attempts: attempts in a row that bring no event, after which `TooManyAttempts` is raised; None: no limit, as
            the standard has it. A server that accepts and closes, over and over, is not progress.
        without_progress: seconds without an event, over several attempts, after which no further one is made.
        redirects: how many redirects one attempt follows; the Fetch standard has 20.
        max_line: the longest line, in bytes. Past it `DecodeLimitExceeded` is raised.
        max_event: the most bytes of data lines in one event.
    """

    attempts: int | None = None
    without_progress: float | None = None
    redirects: int = 20
    max_line: int = 16 * 2**20
    max_event: int = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long a source waits for the other side, in seconds; None: for ever.

    Args:
        connect: for a connection (each address), and for a slot in a client's pool. None: as long as `response`.
        response: for the response's head, once the request is sent. Language models can take a minute.
        inactivity: for the next byte of an open stream; comments count. Longer than any server's heartbeats, and
            shorter than for ever: a peer that lost its power sends no goodbye. A source reconnects then.
    """

    connect: float | None = 10.0
    response: float | None = 120.0
    inactivity: float | None = 300.0


@dataclass(frozen=True, kw_only=True)
class Resume:
    """How a source goes on after its connection broke.

    Args:
        reconnect: False: the end of the stream ends the loop, and a broken connection is an error.
        query: also send the cursor as this query parameter: for servers that don't read `Last-Event-ID`, and for ids
            that no header can carry. The rest of the query stays as it is, to the byte.
        idempotent: the request may be sent again as it is, body and all, with the cursor. None: true of GET, HEAD,
            OPTIONS and QUERY. Otherwise, as of POST: after the first id, or a resume address in `Location` or
            `Content-Location`, the source goes on with GET; without either it raises `NotResumable`. Where it can't
            have been taken it is sent again all the same: no connection, or a 429 or 503 with `Retry-After`.
    """

    reconnect: bool = True
    query: str | None = None
    idempotent: bool | None = None


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
    """Plain functions that are told what happens, called where the source is iterated; they must not block.

    Args:
        open: a stream is open.
        error: an attempt or a connection failed. The second argument is in how many seconds the next attempt is made;
            None if there is none, and the error is raised. Without this hook, failures that are tried again are logged
            as warnings.
        gap: the server says that events are missing (`newswire.gap`), whatever `on_gap` does.
        goodbye: the server stops and asks its clients to come back soon (`newswire.goodbye`).
        disconnect: an open stream is over. The first argument is the error that broke it; None: it ended in order. The
            second is in how many seconds it is read again; None: it is not. (The standard fires `error` for both.)
        comment: the text of each comment of the stream.
        raw: bytes of the stream, as they came, before they are decoded.
        bad_payload: `json()` left out an event whose data is not what was asked for. Without this hook, a warning is
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


class Clock(Protocol):
    """What a source asks of time."""

    def now(self) -> float:
        """Seconds, growing, from anywhere."""
        ...

    def chance(self) -> float:
        """A random number, at least 0 and less than 1."""
        ...

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Block the thread for so long, or until `stop` is set."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for so long in the event loop."""
        ...


class SystemClock:
    """The real one."""

    def now(self) -> float:
        return time.monotonic()

    def chance(self) -> float:
        return random.random()

    def wait(self, seconds: float, stop: threading.Event) -> None:
        stop.wait(seconds)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything that can be set on an event source.

    Args:
        backoff: delays between attempts.
        limits: when to give up, and how much to take.
        timeouts: how long to wait for the other side.
        resume: how to go on after a connection broke.
        hooks: functions that are told what happens.
        on_gap: `yield` the `newswire.gap` event like any other, or `raise` `EventsLost`.
        clock: time and chance; for tests.
    """

    backoff: Backoff = field(default_factory=Backoff)
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    resume: Resume = field(default_factory=Resume)
    hooks: Hooks = field(default_factory=Hooks)
    on_gap: Literal["yield", "raise"] = "yield"
    clock: Clock = field(default_factory=SystemClock)
