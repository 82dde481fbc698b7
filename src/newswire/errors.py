"""Every exception that newswire raises, in one tree.

Attributes come first, so that a program can act on them; the message says what is wrong and what to do,
so that a person can. Nothing here imports anything of newswire's: every floor may raise from this file.

    NewswireError
    ├── InvalidEvent          a field that the wire format can't carry (also a ValueError)
    ├── InvalidChannel        a channel name or pattern that breaks the rules (also a ValueError)
    ├── InvalidPosition       text that is not a position (also a ValueError)
    ├── InvalidSetting        a setting of the server that can't be used (also a ValueError)
    ├── LimitExceeded         something larger than a configured limit
    │   └── DecodeLimitExceeded
    ├── LogError              the log could not do what was asked
    │   ├── LogUnavailable    … now; it may work later
    │   ├── LogUncertain      … or has done it: its answer was lost
    │   ├── LogCorrupt        … and a person has to look
    │   ├── TrimmedAway       a follower is behind what retention kept
    │   └── EpochChanged      the log began another life while it was followed
    ├── SourceError           an event source lost its connection, or stopped
    │   ├── ConnectFailed     … could not connect: the request was never sent
    │   ├── ConnectionLost    … the connection broke
    │   ├── InactivityTimeout … nothing came for too long, not even a comment
    │   ├── ResponseError     … the answer is no event stream; has status, headers, start of the body
    │   │   ├── BadStatus
    │   │   ├── WrongContentType
    │   │   └── BadRedirect
    │   ├── NotResumable      … and going on would mean to send a POST twice
    │   ├── TooManyAttempts   … and a limit of attempts or time is reached
    │   └── EventsLost        the server says that events are missing (`newswire.gap`)
    ├── BadPayload            an event whose data is not what was asked for (also a ValueError)
    ├── RunError              a run could not do what was asked
    │   ├── RunNotFound       … there is none, or it is somebody else's (also a LookupError)
    │   ├── RunOver           … it has ended, or another process produces it now
    │   ├── RunFailed         raised by a producer: its text is meant for the run's readers
    │   └── RelayRefused      … the upstream of a relay gave no stream; has status, headers and body
    └── Closed                the hub, log, subscription or source is closed
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Self


class NewswireError(Exception):
    """The root of the tree: `except NewswireError` catches all that newswire raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross processes (pools, task queues), whatever their constructors take.
        public = vars(type(self)).get("public", type(self))
        return _rebuild, (public, self.args, self.__dict__)


def _rebuild(cls: type[NewswireError], args: tuple[Any, ...], state: dict[str, Any]) -> NewswireError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidEvent(NewswireError, ValueError):
    """A field of an event that `text/event-stream` can't carry, refused where the event is made.

    Attributes:
        field: the name of the field: `data`, `event`, `id`, `retry` or `channel`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class _Answerable(NewswireError):
    """An error that what a client sent leads to, so that a web framework answers it with a status and one line.

    Names and positions come from requests. Where Starlette is in use (FastAPI too), the error is one of its
    `HTTPException`s as well: raised in a route it becomes that answer, and no 500 with a trace. An application may
    handle it in its own way: handlers of newswire's classes come first.
    """

    status_code = 500
    headers: Mapping[str, str] | None = None

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        kind: Any = cls
        starlette = sys.modules.get("starlette.exceptions")
        if starlette is not None:
            kind = _also(kind, starlette.HTTPException)
        error: Self = super().__new__(kind, *args, **fields)
        return error

    @property
    def detail(self) -> str:
        """The message, as the framework's answer has it."""
        return str(self)


@cache
def _also(cls: Any, http_exception: type[Exception]) -> Any:
    if issubclass(cls, http_exception):
        return cls
    own: dict[str, Any] = {"__str__": BaseException.__str__, "__repr__": BaseException.__repr__}
    own["__module__"] = cls.__module__
    own["public"] = cls  # what it is to programs, and after it was pickled
    return type(cls.__name__, (cls, http_exception), own)


class InvalidChannel(_Answerable, ValueError):
    """A channel name or pattern that breaks the rules. In a route of Starlette or FastAPI it is a 400.

    Attributes:
        channel: what was given, cut to 100 characters.
    """

    def __init__(self, channel: object, message: str) -> None:
        super().__init__(message)
        self.channel = str(channel)[:100]

    status_code = 400


class InvalidPosition(_Answerable, ValueError):
    """Text that is not a position. A `Last-Event-ID` never raises it: there, any bytes give a stream."""

    status_code = 400


class InvalidSetting(NewswireError, ValueError):
    """A setting of the server that can't be used. The message names all of these, and what to write instead.

    Attributes:
        source: where it was set: a flag, an environment variable, or a file and its key.
        setting: the setting's name.
        value: what was given there.
        allowed: what may be given, in words.

    Args:
        why: what is wrong, as a sentence, where that is not just a value that is not allowed.
    """

    def __init__(self, source: str, setting: str, value: object, allowed: str, *, why: str | None = None) -> None:
        shown = f"{str(value)[:100]!r} can't be used here. Give {allowed}"
        super().__init__(f"{source}: {shown if why is None else why}")
        self.source = source
        self.setting = setting
        self.value = value
        self.allowed = allowed


class LimitExceeded(NewswireError):
    """Something is larger than a configured limit.

    Attributes:
        what: what is too large, in words: `event size`, `line length`, `batch size` …
        limit: the configured limit, in the unit the message names.
        actual: what was seen (at least; counting stops once the limit is passed).
    """

    def __init__(self, what: str, *, limit: int, actual: int, hint: str = "") -> None:
        super().__init__(f"{what} is {actual:,} and the limit is {limit:,}{': ' + hint if hint else ''}")
        self.what = what
        self.limit = limit
        self.actual = actual


class DecodeLimitExceeded(LimitExceeded):
    """A stream sent a line or an event that is larger than the decoder's limit."""


class LogError(NewswireError):
    """The log could not do what was asked. Nothing of the failed batch was stored (but see `LogUncertain`)."""


class LogUnavailable(LogError):
    """The log can't be used now: locked, full, read-only, or its server is away. Trying later may work."""


class LogUncertain(LogError):
    """The log gave no answer: the batch may be stored, or not. Append it again under the same token, and it is there
    once; without a token, look before you try again."""


class LogCorrupt(LogError):
    """The log's data is damaged, or not a newswire log at all. A person has to look."""


class TrimmedAway(LogError):
    """A follower of the log fell behind what retention keeps; it has to go on from a later position.

    Attributes:
        through: the offset of the newest event that the follower missed.
    """

    def __init__(self, through: int) -> None:
        super().__init__(f"retention removed events up to offset {through} before they were followed")
        self.through = through


class EpochChanged(LogError):
    """The log began another life while it was followed: it was wiped, put back, or another server took over.

    Attributes:
        epoch: the present one.
    """

    def __init__(self, epoch: str) -> None:
        super().__init__(f"the log has another epoch now, {epoch}")
        self.epoch = epoch


class Closed(NewswireError):
    """The hub, log, subscription or source was closed."""


class RunError(NewswireError):
    """A run could not do what was asked."""


class RunNotFound(_Answerable, RunError, LookupError):
    """There is no such run: there never was, it is not kept any more, or it belongs to somebody else.

    In a route of Starlette or FastAPI it is a 404.

    Attributes:
        run_id: what was asked for: an id or a name.
    """

    def __init__(self, run_id: str, hint: str = "") -> None:
        super().__init__(f"there is no run {run_id[:100]!r}, or not for this owner{hint}")
        self.run_id = run_id

    status_code = 404


class RunOver(RunError):
    """Nothing more can be written to a run: it has ended, or another process produces it now."""


class RunFailed(RunError):
    """Raise it in a producer, or a subclass of it: the run fails, and its readers get the text of the exception.

    The text of any other exception stays in the server's own log: it may hold what readers must not see, such as the
    password in a database's URL.
    """


class RelayRefused(RunError):
    """A relayed request was not answered with a stream: by its upstream, or because the upstream can't be reached.

    Attributes:
        status: the HTTP status to give to the client.
        headers: of the answer, with names in lower case; those that belong to one connection are left out.
        body: of the answer.
    """

    def __init__(self, status: int, headers: Sequence[tuple[str, str]], body: bytes, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = body


class SourceError(NewswireError):
    """An event source lost its connection, or stopped. What may be retried never leaves the source as an error."""


class ConnectFailed(SourceError):
    """No connection was made, so that the request was never sent: a name, an address, TLS or a proxy."""


class ConnectionLost(SourceError):
    """The connection broke after the request was sent, or its HTTP was malformed."""


class InactivityTimeout(SourceError):
    """Nothing came for longer than allowed, not even a comment: the other side is taken for dead.

    Attributes:
        seconds: how long was waited.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing came for {seconds:g} seconds, not even a comment (see Timeouts)")
        self.seconds = seconds


class ResponseError(SourceError):
    """The server's answer is not the event stream that was asked for.

    Attributes:
        url: the address that answered, after redirects.
        status: the status code.
        headers: the header fields, names in lower case, in the order of the answer.
        body: the start of the body: 1,024 bytes at most.
    """

    def __init__(
        self, message: str, *, url: str, status: int, headers: Sequence[tuple[str, str]], body: bytes = b""
    ) -> None:
        start = body[:200].decode("utf-8", "replace").strip()
        super().__init__(f"{message}{f': {start}' if start else ''}")
        self.url = url
        self.status = status
        self.headers = tuple(headers)
        self.body = body

    def header(self, name: str) -> str | None:
        """The first value of a header field, or None."""
        name = name.lower()
        return next((value for field, value in self.headers if field == name), None)


class BadStatus(ResponseError):
    """The answer has a status other than 200."""


class WrongContentType(ResponseError):
    """The answer is not `text/event-stream`."""


class BadRedirect(ResponseError):
    """A redirect that leads nowhere: without a location, to no HTTP address, or one too many."""


class NotResumable(SourceError):
    """The stream broke, and there is neither an id nor a resume address to go on from.

    Sending the request again could do twice what it does, so it was not (see `Resume.idempotent`). The error that broke
    the stream is the `__cause__`.
    """


class TooManyAttempts(SourceError):
    """A limit of attempts or of time without progress was reached. The last attempt's error is the `__cause__`.

    Attributes:
        attempts: how many attempts in a row brought no event.
        seconds: how long there was no progress.
    """

    def __init__(self, attempts: int, seconds: float) -> None:
        super().__init__(f"gave up after {attempts} attempts and {seconds:.1f} seconds without an event (see Limits)")
        self.attempts = attempts
        self.seconds = seconds


class EventsLost(SourceError):
    """The server says that events are missing here. The source stays usable: iterating goes on behind the gap.

    Attributes:
        event: the `newswire.gap` event; its data is JSON of `reason`, `after` and `through`.
    """

    def __init__(self, event: Any) -> None:
        super().__init__(f"the server lost events that this source has not seen: {event.data[:200]}")
        self.event = event


class BadPayload(NewswireError, ValueError):
    """The data of an event is not what was asked for. The source stays usable: iterating goes on with the next event.

    Attributes:
        event: the event as it came.
        model: what its data should have been.
    """

    def __init__(self, message: str, *, event: Any, model: object) -> None:
        super().__init__(message)
        self.event = event
        self.model = model
