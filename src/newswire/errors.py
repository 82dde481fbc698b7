"""Every exception that newswire raises, in one tree.

A program acts on an error's class and attributes; its message tells a person what is wrong and what to do. Every floor
raises from this file, so it imports nothing of newswire but the rule for counts. It is one file, however long, as it is
one tree.

    NewswireError
    ├── InvalidEvent          the wire format can't carry a field (also a ValueError)
    │   └── ContractBroken    … or the channel's contract does not allow it
    ├── InvalidChannel        a channel name or pattern that breaks the rules (also a ValueError)
    ├── InvalidPosition       text that is not a position (also a ValueError)
    ├── InvalidConnection     a connection that events can't be published through (also a ValueError)
    ├── InvalidSetting        the server can't use a setting (also a ValueError)
    ├── LimitExceeded         something is larger than a configured limit
    │   └── DecodeLimitExceeded
    ├── LogError              the log could not do it
    │   ├── LogUnavailable    … now; it may work later
    │   ├── LogUncertain      … or has done it: its answer was lost
    │   ├── LogCorrupt        … and a person has to look
    │   ├── TokenReused       … since its token belongs to another batch (also a ValueError)
    │   ├── TrimmedAway       a follower is behind what retention kept
    │   └── EpochChanged      the log began another life while it was followed
    ├── SourceError           an event source lost its connection, or stopped
    │   ├── ConnectFailed     … could not connect: the request was never sent
    │   │   ├── CertificateRejected  … since the server's certificate is not trusted
    │   │   └── ProxyRefused         … since the proxy on the way refuses; has proxy and status
    │   ├── ConnectionLost    … the connection broke
    │   ├── InactivityTimeout … nothing came for too long, not even a comment
    │   ├── ResponseError     … the answer is no event stream; has status, headers, start of the body
    │   │   ├── BadStatus
    │   │   ├── WrongContentType
    │   │   └── BadRedirect
    │   ├── NotResumable      … and to go on it would have to send a POST twice
    │   ├── TooManyAttempts   … and a limit of attempts or time is reached
    │   └── EventsLost        the server says that events are missing (`newswire.gap`)
    ├── BadPayload            an event's data doesn't fit the model (also a ValueError)
    ├── RunError              a run could not do it
    │   ├── RunNotFound       … it does not exist, or belongs to another owner (also a LookupError)
    │   ├── RunOver           … it has ended, or another process produces it now
    │   ├── RunFailed         raised by a producer: its text is meant for the run's readers
    │   └── RelayRefused      … the upstream of a relay gave no stream; has status, headers and body
    └── Closed                the hub, log, subscription or source is closed
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, Self

from newswire.counted import counted


class NewswireError(Exception):
    """The root of the tree: `except NewswireError` catches every error that newswire raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross processes (pools, task queues). Pickle alone would call the constructor with the wrong arguments.
        public = vars(type(self)).get("public", type(self))
        return _rebuild, (public, self.args, self.__dict__)


def _rebuild(cls: type[NewswireError], args: tuple[Any, ...], state: dict[str, Any]) -> NewswireError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidEvent(NewswireError, ValueError):
    """`text/event-stream` can't carry a field of an event. It is raised where the event is made.

    Attributes:
        field: the name of the field: `data`, `event`, `id`, `retry` or `channel`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class ContractBroken(InvalidEvent):
    """An event is not one of its channel's contract, or its data doesn't fit. Nothing was stored.

    Attributes:
        field: the first place that is wrong: `event`, or a path such as `data.lines[0].quantity`.
        contract: the name of the contract.
        event: the event's type; None if it was to be found by the value.
        faults: pairs of a place and what is wrong there.
    """

    def __init__(self, message: str, *, contract: str, event: str | None, faults: Sequence[tuple[str, str]]) -> None:
        super().__init__(faults[0][0], message)
        self.contract = contract
        self.event = event
        self.faults: tuple[tuple[str, str], ...] = tuple(faults)


# The errors that a framework answers with a status: the module and the class.
FRAMEWORKS: Final = (
    ("starlette.exceptions", "HTTPException"),  # FastAPI too
    ("litestar.exceptions", "HTTPException"),
    ("werkzeug.exceptions", "HTTPException"),  # Flask, Quart
)
_SANIC: Final = ("sanic.exceptions", "SanicException")
_DJANGO: Final = {400: ("django.core.exceptions", "BadRequest"), 404: ("django.http.response", "Http404")}


class _Answerable(NewswireError):
    """An error that a client's request can cause, which a web framework answers with a status and one line.

    Names and positions come from requests. Where a framework is in use, the error is also one of its own errors that
    have a status: in Starlette, FastAPI, Litestar, Flask, Quart, Sanic and Django. So a route that raises it answers
    with its status, and not with a 500 and a trace. An application can handle it in another way: handlers for
    newswire's classes come first.
    """

    status_code = 500
    headers: Mapping[str, str] | None = None

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        kind: Any = cls
        if bases := bases_for(cls, *FRAMEWORKS, _SANIC, _DJANGO.get(cls.status_code, ("", ""))):
            kind = _also(kind, *bases)
        error: Self = super().__new__(kind, *args, **fields)
        return error

    def __init__(self, *args: object) -> None:
        Exception.__init__(self, *args)  # `super()` may lead to Starlette's, which takes a status and sets `detail`

    @property
    def detail(self) -> str:
        """The text of the framework's answer: the message."""
        return str(self)


def bases_for(cls: type[Exception], *errors: tuple[str, str]) -> list[Any]:
    """The errors of frameworks that are in use, by module and name, which a class is not one of yet."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in errors)
    return [base for base in found if base is not None and not issubclass(cls, base)]


@cache
def _also(cls: Any, *bases: type[Exception]) -> Any:
    own: dict[str, Any] = {"__str__": BaseException.__str__, "__repr__": BaseException.__repr__}
    own["__module__"] = cls.__module__
    own["public"] = vars(cls).get("public", cls)  # the class that programs know, and that pickle stores
    # What the frameworks read from one of theirs, beside its status and its `detail`.
    own |= {"code": cls.status_code, "description": property(str), "response": None, "extra": None, "context": None}
    own |= {"headers": {}, "quiet": True}
    return type(cls.__name__, (cls, *bases), own)


class InvalidChannel(_Answerable, ValueError):
    """A channel name or pattern that breaks the rules. In a route of a web framework it is a 400; not in aiohttp.

    Attributes:
        channel: the name or pattern, cut to 100 characters.
    """

    def __init__(self, channel: object, message: str) -> None:
        super().__init__(message)
        self.channel: str = str(channel)[:100]

    status_code = 400


class InvalidPosition(_Answerable, ValueError):
    """Text that is not a position. A `Last-Event-ID` never raises it: any bytes in that header give a stream."""

    status_code = 400


class InvalidConnection(NewswireError, ValueError):
    """Events can't be published through this connection: newswire does not know its kind, it leads to another database
    than the log, or the log takes none. Nothing was written. The message says what to do."""


class InvalidSetting(NewswireError, ValueError):
    """The server can't use a setting. The message says which one, where it was set, and what to write instead.

    Attributes:
        source: where it was set: a flag, an environment variable, or a file and its key.
        setting: the setting's name.
        value: the value that was set.
        allowed: the values that are allowed, in words.

    Args:
        why: what is wrong, as a sentence, if the reason is not simply that the value is not allowed.
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
        limit: the configured limit, in the unit that the message names.
        actual: the size that was seen. The true size may be larger, since counting stops at the limit.
    """

    def __init__(self, what: str, *, limit: int, actual: int, hint: str = "") -> None:
        super().__init__(f"{what} is {actual:,} and the limit is {limit:,}{': ' + hint if hint else ''}")
        self.what = what
        self.limit = limit
        self.actual = actual


class DecodeLimitExceeded(LimitExceeded):
    """A stream sent a line or an event that is larger than the decoder's limit."""


class LogError(NewswireError):
    """The log could not do what a caller wanted. Nothing of the failed batch was stored (but see `LogUncertain`)."""


class LogUnavailable(LogError):
    """The log can't be used now: locked, full, read-only, or its server is away. Trying later may work."""


class LogUncertain(LogError):
    """The log gave no answer: the batch may be stored, or not. Append it again under the same token, and it is there
    once; without a token, look before you try again."""


class LogCorrupt(LogError):
    """The log's data is damaged, or not a newswire log at all. A person has to look."""


class TokenReused(LogError, ValueError):
    """A token or an idempotency key was used again for a batch of another length. Nothing was stored."""

    def __init__(self) -> None:
        super().__init__(
            "this idempotency key or token belongs to a batch with another number of events, so nothing was stored: "
            "use it again only with the same events"
        )


class TrimmedAway(LogError):
    """A follower of the log needs events that retention has removed. It must go on from a later position.

    Attributes:
        through: the offset of the newest event that the follower missed.
    """

    def __init__(self, through: int) -> None:
        super().__init__(f"retention removed events up to offset {through} before they were followed")
        self.through = through


class EpochChanged(LogUnavailable):
    """The log began another life while it was read or followed: it was wiped, put back, or another server took over.

    Ask for its `span`, and begin again.

    Attributes:
        epoch: the present one.
    """

    def __init__(self, epoch: str) -> None:
        super().__init__(f"the log has another epoch now, {epoch}")
        self.epoch = epoch


class Closed(NewswireError):
    """The hub, log, subscription or source was closed."""


class RunError(NewswireError):
    """A run could not do what a caller wanted."""


class RunNotFound(_Answerable, RunError, LookupError):
    """No such run exists for this owner: it never did, is not kept any more, or belongs to another owner.

    In a route of a web framework it is a 404; not in aiohttp.

    Attributes:
        run_id: the id or the name that the call gave.
    """

    def __init__(self, run_id: str, hint: str = "") -> None:
        super().__init__(f"there is no run {run_id[:100]!r}, or not for this owner{hint}")
        self.run_id = run_id

    status_code = 404


class RunOver(RunError):
    """A run takes no more events: it has ended, or another process produces it now."""


class RunFailed(RunError):
    """Raise it, or a subclass of it, in a producer: the run fails, and its readers get the text of the exception.

    The text of any other exception goes only to the server's log. It may have something in it that readers must not
    see, such as the password in a database's URL.
    """


class RelayRefused(RunError):
    """A relayed request brought no stream: the upstream refused it, or can't be reached.

    Attributes:
        status: the HTTP status to give to the client.
        headers: the headers of the answer, with names in lower case, without those that belong to one connection.
        body: the body of the answer.
    """

    def __init__(self, status: int, headers: Sequence[tuple[str, str]], body: bytes, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = body


class SourceError(NewswireError):
    """An event source lost its connection, or stopped. An error that another attempt may cure is raised only with
    `Resume(reconnect=False)`."""


class ConnectFailed(SourceError):
    """The source could not connect, so the request was never sent. The cause is a name, an address, TLS or a proxy."""


class CertificateRejected(ConnectFailed):
    """The server's certificate is not trusted, is for another name, or is out of date.

    It is raised if the source has not been open yet. Later the source tries again, since a server or a proxy that is
    being restarted may show another certificate for a moment.
    """


class ProxyRefused(ConnectFailed):
    """A proxy refuses to connect the source to the server. It is raised unless the status says "not now".

    Attributes:
        proxy: the proxy's address, without user and password; empty if it is not known.
        status: what the proxy answered, such as 407 if it wants a user and a password. 407 too for a SOCKS proxy that
            does not accept those that it got.
    """

    def __init__(self, message: str, *, proxy: str, status: int) -> None:
        super().__init__(message)
        self.proxy = proxy
        self.status = status


class ConnectionLost(SourceError):
    """The connection broke after the request was sent, or its HTTP was malformed."""


class InactivityTimeout(SourceError):
    """Nothing came for longer than allowed, not even a comment, so the source takes the other side for dead.

    Attributes:
        seconds: how long the source waited.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing came for {counted(seconds, 'second')}, not even a comment (see Timeouts)")
        self.seconds = seconds


class ResponseError(SourceError):
    """The server's answer is no event stream.

    Attributes:
        url: the address that answered, after redirects.
        status: the status code.
        headers: the header fields, names in lower case, in the order of the answer.
        body: the start of the body: 1,024 bytes at most.
    """

    def __init__(
        self, message: str, *, url: str, status: int, headers: Sequence[tuple[str, str]], body: bytes = b""
    ) -> None:
        start = " ".join(body[:200].decode("utf-8", "replace").split())
        # What a terminal would obey is shown: the text is the server's, and errors are printed.
        start = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in start)
        super().__init__(f"{message}{f': {start}' if start else ''}")
        self.url = url
        self.status = status
        self.headers: tuple[tuple[str, str], ...] = tuple(headers)
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
    """A redirect can't be followed: it has no location, names no HTTP address, or is one too many."""


class NotResumable(SourceError):
    """The stream broke, and the source has neither an id nor a resume address to go on from.

    The source does not send the request again, since that could have its effect twice (see `Resume.idempotent`). The
    error that broke the stream is the `__cause__`.
    """


class TooManyAttempts(SourceError):
    """A limit of attempts or of time without progress was reached. The last attempt's error is the `__cause__`.

    Attributes:
        attempts: the attempts in a row that brought no event.
        seconds: the time without an event.
    """

    def __init__(self, attempts: int, seconds: float) -> None:
        super().__init__(
            f"gave up after {counted(attempts, 'attempt')} and {seconds:.1f} seconds without an event (see Limits)"
        )
        self.attempts = attempts
        self.seconds = seconds


class EventsLost(SourceError):
    """The server says that events are missing here. You can go on iterating: the next event is the one after the gap.

    Attributes:
        event: the `newswire.gap` event; its data is JSON of `reason`, `after` and `through`.
    """

    def __init__(self, event: Any) -> None:
        super().__init__(f"the server lost events that this source has not seen: {event.data[:200]}")
        self.event = event


class BadPayload(NewswireError, ValueError):
    """The data of an event doesn't fit the model. You can go on iterating with the next event.

    Attributes:
        event: the event as it came.
        model: the model.
    """

    def __init__(self, message: str, *, event: Any, model: object) -> None:
        super().__init__(message)
        self.event = event
        self.model = model
