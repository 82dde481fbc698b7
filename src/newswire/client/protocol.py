"""Decides what an event source does next, for the sync and the async source alike.

A `Protocol` is a state machine (WHATWG HTML 9.2.2 and 9.2.3). Its `step` says what to do: connect, read, read the start
of an error's body, wait, or stop. The source does that, reports the result by one of the `receive_…` methods, and finds
the next step. The protocol itself does no I/O and has no clock: time and random numbers are arguments.

            ┌────────────── Wait ◄── failed, ended, 5xx ──┐
            ▼                                             │
    ──► CONNECTING: Connect ── 200, text/event-stream ──► OPEN: Read
            │                                             │
            └──── 204, 4xx, wrong type, limits ──► CLOSED: Stop ◄── newswire.end

With `Resume(reconnect=False)` what would lead to `Wait` leads to `Stop`, except for a 401 that other headers may cure.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from newswire.client.backoff import AttemptHistory, retry_after
from newswire.client.options import Opened, Options
from newswire.client.request import Request, moved, resolve, with_cursor
from newswire.errors import (
    BadRedirect,
    BadStatus,
    CertificateRejected,
    ConnectFailed,
    DecodeLimitExceeded,
    NewswireError,
    NotResumable,
    ProxyRefused,
    SourceError,
    TooManyAttempts,
    WrongContentType,
)
from newswire.redact import printable, without_userinfo
from newswire.wire.decoder import Decoder
from newswire.wire.event import Event
from newswire.wire.gzip import is_readable
from newswire.wire.headers import is_event_stream
from newswire.wire.reserved import END, GOODBYE

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# Statuses that say "not now" rather than "no". The standard fails the connection for good at each of them. Then a 502
# during a rolling deploy would end every client.
_NOT_NOW: Final = frozenset({408, 425, 429})
# With a `Retry-After` the server asks for the request once more, so even a POST may be sent again. Without one we don't
# know which machine on the way has answered, and what the others did.
_NOT_TAKEN: Final = frozenset({429, 503})
# Bytes of an error's body that are kept with the error: enough for a person, or a program, to see what is wrong.
_ERROR_BODY: Final = 1024
_ENDINGS: Final = frozenset({GOODBYE, END})
_type_of: Final = itemgetter(1)  # `Event.event`


def _says_not_now(status: int) -> bool:
    return status in _NOT_NOW or 500 <= status <= 599


class ReadyState(enum.IntEnum):
    """`readyState`, with the standard's numbers (9.2.2)."""

    CONNECTING = 0
    OPEN = 1
    CLOSED = 2


@dataclass(frozen=True)
class Connect:
    """Send this request, then call `receive_head` or `receive_failure`."""

    request: Request


@dataclass(frozen=True)
class Read:
    """Read from the stream, then call `receive_data`, `receive_end` or `receive_failure`."""


@dataclass(frozen=True)
class ReadError:
    """Read up to `limit` bytes of the body, as far as they come, then call `receive_refusal`."""

    limit: int


@dataclass(frozen=True)
class Wait:
    """Drop the connection, wait until the time `until`, then call `woke`.

    `error` is the reason; None means that the stream ended in order.
    """

    until: float
    error: NewswireError | None = None


@dataclass(frozen=True)
class Stop:
    """Drop the connection for good. Raise `error`, unless it is None: then the stream ended in order."""

    error: NewswireError | None = None


Step = Connect | Read | ReadError | Wait | Stop


class Protocol:
    """The state of one event source.

    Args:
        request: what the user asked for.
        options: what the user set.
        last_event_id: where to go on from; empty if there is no such place.
        renewable: whether `renew` is called before each attempt, so that a 401 may be followed by one more.
        now: the time now.

    Attributes:
        step: what to do next.
        state: `CONNECTING`, `OPEN` or `CLOSED`.
        last_event_id: the last event ID string (9.2.2).
        attempts: what they mean for the next one, so far.
        resume_url: the address at which a GET reads the stream that a POST started, if the server named one.
        control: the `newswire.goodbye` or `newswire.end` event that ended the last connection, or None.
        unsendable: whether the last request had to leave out the last event ID.
        comments: the comments received since the session last emptied this list.
    """

    def __init__(
        self, request: Request, options: Options, *, last_event_id: str = "", renewable: bool = False, now: float
    ) -> None:
        self.state: ReadyState = ReadyState.CONNECTING
        self.last_event_id: str = last_event_id
        self.resume_url: str | None = None
        self.control: Event | None = None
        self.unsendable: bool = False
        self.comments: list[str] = []
        self._request = request
        self._options = options
        resend = options.resume.idempotent
        self._resend = request.idempotent if resend is None else resend
        self._renewable = renewable
        self._refused: tuple[Request, BadStatus] | None = None  # what a 401 answered, since a stream was open
        self._decoder = Decoder()
        self.attempts: AttemptHistory = AttemptHistory(options.backoff, now)
        self._redirects = 0
        self._was_open = False
        self._head: Opened | None = None
        self.step: Step = Connect(self._next_request())

    # -- inputs

    @property
    def url(self) -> str:
        """The address that the user gave."""
        return self._request.url

    @property
    def fresh(self) -> bool:
        """Whether an attempt is about to begin. A redirect in the middle of one doesn't count."""
        return isinstance(self.step, Connect) and not self._redirects

    def renew(self, request: Request) -> None:
        """Uses another address or other header fields for this and later attempts.

        Stops if this is what the server has answered with a 401.
        """
        assert self.fresh
        if self._refused is not None and self._refused[0] == request:
            self._stop(self._refused[1])
            return
        self._request = request
        self.step = Connect(self._next_request())

    def receive_head(self, head: Opened, now: float) -> None:
        """Takes the head of the server's answer to `Connect`."""
        assert isinstance(self.step, Connect)
        request = self.step.request
        self._head = head
        encoding = head.header("content-encoding") or ""
        readable = request.takes_compressed or is_readable(encoding)
        if head.status in _REDIRECTS:
            self._redirected(request, head)
        elif head.status == 204:
            # A 204 makes a client stop reconnecting (9.2.1).
            self._stop(None)
        elif not self._is_stream(request, head):
            self.step = ReadError(_ERROR_BODY if readable else 0)
        elif not readable:
            message = f"{head.url} answered with a content-encoding of {encoding[:60]!r} that the request did not allow"
            self._stop(WrongContentType(message, url=head.url, status=head.status, headers=head.headers, body=b""))
        else:
            self._open(request, head, now)

    def receive_refusal(self, body: bytes, now: float, chance: float) -> None:
        """Takes the start of the body of an answer that is no event stream."""
        assert self._head is not None
        status, headers, url = self._head.status, self._head.headers, self._head.url
        if status in (200, 201):
            # "if res's status is not 200, or if res's `Content-Type` is not `text/event-stream`, then fail the
            # connection." (9.2.2)
            kind = self._head.header("content-type")
            kind = printable(kind, lines=False) if kind else "no content type"
            message = f"{url} answered with {kind}, not with text/event-stream"
            self._stop(WrongContentType(message, url=url, status=status, headers=headers, body=body))
            return
        who = f"a proxy before {url}" if status == 407 else url
        error = BadStatus(f"{who} answered {status}", url=url, status=status, headers=headers, body=body)
        if status == 401 and self._renewable and self._refused is None:
            # A token has expired: get the next one at once. Nothing was done, so a POST may go out again.
            self._refused = self._request, error
            self.step = Wait(now, error)
            return
        asked = retry_after(self._head.header("retry-after") or "", self._head.header("date") or "")
        may = self._may_go_on() or (status in _NOT_TAKEN and asked is not None)
        if not (_says_not_now(status) and may and self._options.resume.reconnect):
            self._stop(error)
            return
        self.attempts.failed()
        if asked is None:
            self._again(error, now, self.attempts.delay(chance))
        else:
            delay = self._options.backoff.asked(asked, chance=chance)
            self._again(error, now, self.attempts.spaced(now, delay, asked=True))

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Takes bytes of the stream, and returns the events that they complete.

        `newswire.gap` is among these events. `newswire.goodbye` and `newswire.end` are not: they change `step`.
        """
        decoder = self._decoder
        try:
            events = decoder.feed(data)
        except DecodeLimitExceeded as error:
            self._stop(error)
            return []
        if decoder.retry is not None:
            # "set the event stream's reconnection time to that integer" (9.2.6), in milliseconds
            self.attempts.retry = decoder.retry / 1000
        id = decoder.last_event_id
        if not _ENDINGS.isdisjoint(map(_type_of, events)):  # runs in C; a loop here would cost a twelfth of all CPU
            index, event = next((n, event) for n, event in enumerate(events) if event.event in _ENDINGS)
            id = event.id or ""
            del events[index:]
            self._end_of_stream(event, now)
        if events or id != self.last_event_id:
            self.attempts.progressed(now)
        self.last_event_id = id
        return events

    def receive_end(self, now: float, chance: float) -> None:
        """The stream ended, in order as far as HTTP shows."""
        if not self._options.resume.reconnect or not self._may_go_on():
            self._stop(None)
            return
        # A server that ends its streams after every few events is slow, not broken: the back-off neither grows nor
        # ends.
        self.attempts.closed(now, failed=not self.attempts.progress)
        self._again(None, now, self.attempts.spaced(now, self.attempts.delay(chance)))

    def receive_failure(self, error: SourceError, now: float, chance: float) -> None:
        """The attempt or the connection failed."""
        may = self._may_go_on()
        if not self._options.resume.reconnect or self._is_final(error):
            self._stop(error)
            return
        if self.state is ReadyState.OPEN:
            self.attempts.closed(now, failed=True)
        else:
            self.attempts.failed()
            may = may or isinstance(error, ConnectFailed)
        if may:
            self._again(error, now, self.attempts.delay(chance))
            return
        what = "the stream of a POST broke" if self.state is ReadyState.OPEN else "the answer to a POST did not come"
        stop = NotResumable(f"{what}, and it has no id to go on from: {error}")
        stop.__cause__ = error
        self._stop(stop)

    def woke(self) -> None:
        """`Wait` is over."""
        self._redirects = 0
        self.step = Connect(self._next_request())

    def close(self) -> None:
        """The user closed the source."""
        self._stop(None)

    # -- decisions

    def _is_final(self, error: SourceError) -> bool:
        """Whether another attempt to connect would fail in the same way.

        An unknown host is no such failure: in a cluster a name comes with its service, and a laptop may be offline.
        """
        if isinstance(error, ProxyRefused):
            return not _says_not_now(error.status)
        return isinstance(error, CertificateRejected) and not self._was_open

    def _is_stream(self, request: Request, head: Opened) -> bool:
        # 201 is what a POST that made something answers.
        return (head.status == 200 or (head.status == 201 and request.method == "POST")) and is_event_stream(
            head.header("content-type")
        )

    def _open(self, request: Request, head: Opened, now: float) -> None:
        """ "announce the connection": 9.2.2."""
        limits = self._options.limits
        self.state = ReadyState.OPEN
        self._was_open = True
        self.step = Read()
        self.control = None
        self._refused = None
        self.attempts.opened(now)
        # A new parser for each connection: what the last one left unfinished is discarded. The standard starts with
        # an empty ID buffer. Like browsers, we start with the ID in force; else an event without one would clear it.
        self._decoder = Decoder(
            max_line=limits.max_line,
            max_event=limits.max_event,
            last_event_id=self.last_event_id,
            on_comment=self.comments.append if self._options.hooks.comment is not None else None,
        )
        if not request.idempotent:
            self._offer(head, head.header("content-location") or head.header("location"))

    def _offer(self, head: Opened, location: str | None) -> None:
        if location:
            try:
                self.resume_url = resolve(head.url, location)
            except ValueError:
                pass  # the source can't go on from there after a break; until then the stream works

    def _redirected(self, request: Request, head: Opened) -> None:
        self._redirects += 1
        problem = None
        url = ""
        try:
            url = resolve(head.url, head.header("location") or "")
        except ValueError as error:
            problem = f"to {without_userinfo(head.header('location') or '')!r}, which is no address: {error}"
        if self._redirects > self._options.limits.redirects:
            problem = f"once more, after {self._redirects - 1} redirects"
        if problem is not None:
            message = f"{head.url} redirects ({head.status}) {problem}"
            self._stop(BadRedirect(message, url=head.url, status=head.status, headers=head.headers))
            return
        # Fetch: 303 makes everything a GET, 301 and 302 make POST one; 307 and 308 keep method and body.
        keep = head.status in (307, 308) or (head.status != 303 and request.method != "POST")
        if not keep and not request.idempotent:
            self._offer(head, url)  # a reconnect finds the answer to the POST there too
        self.step = Connect(moved(request, url, keep=keep or request.method == "GET"))

    def _end_of_stream(self, event: Event, now: float) -> None:
        self.control = event
        if event.event == END or not self._options.resume.reconnect or not self._may_go_on(event.id or ""):
            self._stop(None)
            return
        self.attempts.closed(now, failed=False)
        # The server gave each client its own reconnection time, which spreads them already.
        self._again(None, now, self.attempts.spaced(now, self._options.backoff.floor(self.attempts.retry)))

    def _may_go_on(self, id: str = "") -> bool:
        return self._resend or bool(id or self.last_event_id or self.resume_url)

    def _again(self, error: NewswireError | None, now: float, delay: float) -> None:
        """ "reestablish the connection": 9.2.3."""
        limits, attempts = self._options.limits, self.attempts
        if self.state is ReadyState.CONNECTING or not attempts.progress:
            attempts.fruitless += 1
        waited = now - attempts.progress_at
        if (limits.attempts is not None and attempts.fruitless >= limits.attempts) or (
            limits.without_progress is not None and waited + delay > limits.without_progress
        ):
            stop = TooManyAttempts(attempts.fruitless, waited)
            stop.__cause__ = error
            self._stop(stop)
            return
        self.state = ReadyState.CONNECTING
        attempts.begins(now + delay)
        self.step = Wait(now + delay, error)

    def _next_request(self) -> Request:
        request = self._request
        if not self._resend and (self.last_event_id or self.resume_url):
            request = moved(request, self.resume_url or request.url, keep=False)
        request, sent = with_cursor(request, self.last_event_id, self._options.resume.query)
        self.unsendable = not sent
        return request

    def _stop(self, error: NewswireError | None) -> None:
        """ "fail the connection": "set the readyState attribute to CLOSED" and never reconnect (9.2.3)."""
        self.state = ReadyState.CLOSED
        self.step = Stop(error)
