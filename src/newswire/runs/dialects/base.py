"""What a dialect is: one reader's way to be told a run, in the words of an API that its client knows.

A dialect is a small state machine. It is fed parts, knows what the client has seen, and says what the client is to see
next. It does no I/O, gives no ids and knows no positions: `newswire.runs.transcode` feeds it, puts the id of each
stored event on the last block that comes of it, and writes heartbeats between blocks.

The rule that makes a reader resumable anywhere: for every cut, what a client makes of `prelude()`, after the parts
before the cut were given to `skip`, and then of `write` for the parts after it, is what it makes of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from newswire.runs.parts import Part
from newswire.wire.event import Event

Reason = Literal["done", "failed", "stopped", "interrupted"]


@dataclass(frozen=True, slots=True)
class Head:
    """What a dialect knows of the run from the start.

    Attributes:
        id: the run's.
        created: when it was started, in seconds since the Unix epoch.
        meta: what the one who started it said of it; dialects read `model`.
    """

    id: str
    created: float = 0.0
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended.

    Attributes:
        reason: `done`, `failed` (its producer raised), `stopped` (somebody asked for it) or `interrupted` (its worker
            died).
        error: for `failed`: `type` and `message`.
        result: for `done`: what the producer returned, or None.
    """

    reason: Reason
    error: Mapping[str, str] | None = None
    result: Any = None


class Dialect:
    """One reader's stream. Subclasses are named by what clients call their format.

    Attributes:
        name: how a request asks for it.
        headers: more headers of the response, such as one that its client looks for.
    """

    name: ClassVar[str]
    headers: ClassVar[Sequence[tuple[str, str]]] = ()

    def __init__(self, head: Head) -> None:
        self.head = head

    def skip(self, part: Part) -> None:
        """Take note of a part that the client has seen, or will see through `prelude`."""
        raise NotImplementedError

    def prelude(self) -> list[Event]:
        """What a stream begins with: it opens what is open, and says what was skipped in as few blocks as can be.

        Called once, before `write`.
        """
        raise NotImplementedError

    def write(self, part: Part) -> list[Event]:
        """What the client is told of the next part; may be nothing."""
        raise NotImplementedError

    def end(self, end: End) -> list[Event]:
        """What closes the stream: what is open is closed, and the client can tell a whole answer from a broken one.

        Called once, last.
        """
        raise NotImplementedError

    def goodbye(self) -> list[Event]:
        """What closes a stream whose run goes on (the server is stopping): an error that says to come back."""
        raise NotImplementedError
