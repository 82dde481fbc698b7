"""Every exception that newswire raises, in one tree.

Attributes come first, so that a program can act on them; the message says what is wrong and what to do,
so that a person can. Nothing here imports anything of newswire's: every floor may raise from this file.

    NewswireError
    ├── InvalidEvent          a field that the wire format can't carry (also a ValueError)
    ├── InvalidChannel        a channel name or pattern that breaks the rules (also a ValueError)
    ├── InvalidPosition       text that is not a position (also a ValueError)
    ├── LimitExceeded         something larger than a configured limit
    │   └── DecodeLimitExceeded
    ├── LogError              the log could not do what was asked
    │   ├── LogUnavailable    … now; it may work later
    │   ├── LogCorrupt        … and a person has to look
    │   └── TrimmedAway       a follower is behind what retention kept
    └── Closed                the hub, log, subscription or source is closed
"""

from __future__ import annotations


class NewswireError(Exception):
    """The root of the tree: `except NewswireError` catches all that newswire raises on purpose."""


class InvalidEvent(NewswireError, ValueError):
    """A field of an event that `text/event-stream` can't carry, refused where the event is made.

    Attributes:
        field: the name of the field: `data`, `event`, `id`, `retry` or `channel`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class InvalidChannel(NewswireError, ValueError):
    """A channel name or pattern that breaks the rules.

    Attributes:
        channel: what was given, cut to 100 characters.
    """

    def __init__(self, channel: object, message: str) -> None:
        super().__init__(message)
        self.channel = str(channel)[:100]


class InvalidPosition(NewswireError, ValueError):
    """Text that is not a position. A `Last-Event-ID` never raises it: there, any bytes give a stream."""


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
    """The log could not do what was asked. Nothing of the failed batch was stored."""


class LogUnavailable(LogError):
    """The log can't be used now: locked, full, read-only, or its server is away. Trying later may work."""


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


class Closed(NewswireError):
    """The hub, log, subscription or source was closed."""
