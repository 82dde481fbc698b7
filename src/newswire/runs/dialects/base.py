"""What a dialect is: how one reader gets a run, in the words of an API that its client knows.

A dialect is a small state machine. It is fed parts, knows what the client has seen, and says what the client is to see
next. It does no I/O, gives no ids and knows no positions. Who feeds it, for each reader:

1. makes one (`newswire.runs.dialects.dialect_for`, which knows what to do with a run that stores raw events of an
   upstream), and sends its `headers` with the response;
2. gives what is stored at and before the reader's position to `skip_event`, in order;
3. sends `prelude()`, once, which may be empty;
4. sends what `write_event` says of each later stored event. Where `merges` is true, neighbours that one part can say
   (`newswire.runs.dialects.coalesce.merged`) may be given to `skip` and `write` as that one part instead;
5. sends `end` when the run has ended, or `goodbye` when the stream has to end before it.

The id of a stored event goes on the last block that it became, `retry:` on the first block of the stream, and
heartbeats (`newswire.wire.encoder.HEARTBEAT`) between blocks: real clients crash at any other place.

The rule that makes a reader resumable anywhere: for every cut, what a client makes of `prelude()`, after the parts
before the cut were skipped, and then of the parts after it, is what it makes of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from newswire.runs.dialects.coalesce import Coalescer
from newswire.runs.parts import Part, event_of, part_of
from newswire.wire.event import Event
from newswire.wire.payload import write_json
from newswire.wire.reserved import END, goodbye

Reason = Literal["done", "failed", "stopped", "interrupted"]


@dataclass(frozen=True, slots=True)
class Head:
    """What a dialect knows of the run from the start.

    Attributes:
        id: the run's.
        created: when it was started, in seconds since the Unix epoch.
        meta: what the one who started it said of it; dialects read `model` and `raw`, AG-UI's `thread`.
    """

    id: str
    created: float = 0.0
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The model's name, which several formats demand: what `meta` says, else `unknown`."""
        model = self.meta.get("model")
        return model if isinstance(model, str) and model else "unknown"

    @property
    def raw(self) -> str | None:
        """The format of an upstream whose events the run stores as they came, if `meta` says so."""
        raw = self.meta.get("raw")
        return raw if isinstance(raw, str) else None


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

    def fields(self) -> dict[str, Any]:
        """What of it is stored."""
        found = {"reason": self.reason, "error": self.error, "result": self.result}
        return {name: value for name, value in found.items() if value is not None}

    def event(self) -> Event:
        """The last event of a run, which its readers get.

        Raises:
            TypeError, ValueError, RecursionError: JSON has no words for the result.
        """
        return Event(write_json(self.fields()), END)


@dataclass(frozen=True, slots=True)
class StreamFailure:
    """Why a stream ends before the answer does. Each dialect says it in the shape of its format's errors.

    Attributes:
        code: what a program looks at: `failed`, `stopped`, `interrupted` or `goodbye`.
        type: the kind of error: for `failed` what the producer raised, else the code.
        message: for people.
    """

    code: Literal["failed", "stopped", "interrupted", "goodbye"]
    type: str
    message: str


DONE: Final = Event("[DONE]")
"""The last event of a stream, in several formats."""

GOODBYE: Final = StreamFailure(
    "goodbye", "goodbye", "The server is going away and the answer goes on: read this stream again from the last id."
)
_MESSAGES: Final = {
    "failed": "The run failed.",
    "stopped": "The run was stopped before its answer was whole.",
    "interrupted": "The run was interrupted: its worker died before its answer was whole.",
}


def problem_of(end: End) -> StreamFailure:
    """What to tell a client of an end other than `done`."""
    code = "failed" if end.reason == "done" else end.reason
    error = end.error or {}
    return StreamFailure(code, error.get("type") or code, error.get("message") or _MESSAGES[code])


def block(data: Any, event: str = "message") -> Event:
    """The event that says a value in JSON. It never has empty data, which breaks clients."""
    return Event(write_json(data), event)


class Dialect:
    """One reader's stream. Subclasses are named by what clients call their format.

    A subclass says how a stream begins (`begin`), what each part is (`write`), and how it ends (`close`, `fail`). The
    prelude follows from these: what was skipped comes again, in as few parts as can say it. So `write` must make the
    same of parts that follow each other as of the one that they are merged to.

    Attributes:
        name: how a request asks for it.
        headers: more headers of the response, such as one that its client looks for.
        plain: whether its clients know blocks without data, as the standard has them.
        merges: whether neighbouring parts may be given as one.
        head: the run.
    """

    name: ClassVar[str]
    headers: ClassVar[Sequence[tuple[str, str]]] = ()
    plain: ClassVar[bool] = False
    merges: ClassVar[bool] = True

    def __init__(self, head: Head) -> None:
        self.head = head
        self._skipped = Coalescer()

    # -- what the run's machinery calls

    def skip(self, part: Part) -> None:
        """Take note of a part that comes before the reader's position. It will be part of `prelude`."""
        self._skipped.add(part)

    def skip_event(self, event: str, data: str) -> None:
        """Take note of a stored event, given by its type and data."""
        self.skip(part_of(event, data))

    def prelude(self) -> list[Event]:
        """What a stream begins with: all that was skipped, in as few blocks as can be, and what is open stays open.

        Called once, before `write`, also when nothing was skipped.
        """
        events = self.begin()
        for part in self._skipped.parts():
            events += self.write(part)
        self._skipped = Coalescer()
        return events

    def write(self, part: Part) -> list[Event]:
        """What the client gets for the next part; may be nothing. Never raises: what makes no sense is left out."""
        raise NotImplementedError

    def write_event(self, event: str, data: str) -> list[Event]:
        """What the client gets for the next stored event, given by its type and data."""
        return self.write(part_of(event, data))

    def end(self, end: End) -> list[Event]:
        """What closes the stream: the client can tell a whole answer from a broken one. Called once, last."""
        if end.reason != "done":
            return self.fail(problem_of(end))
        try:
            write_json(end.result)
        except (TypeError, ValueError, RecursionError):
            return self.close(None)  # a result that JSON can't say; the answer is whole without it
        return self.close(end.result)

    def goodbye(self, wait: int) -> list[Event]:
        """What closes a stream whose run goes on (the server is stopping): an error that says to come back.

        Args:
            wait: in milliseconds, what the client should wait; the first of the blocks gets it as its `retry:` too.
        """
        return self.fail(GOODBYE)

    # -- what a subclass says

    def begin(self) -> list[Event]:
        """What every stream begins with, resumed or not."""
        raise NotImplementedError

    def close(self, result: Any) -> list[Event]:
        """What ends a whole answer: what is open is closed, and the format's own last event.

        Args:
            result: what the producer returned, for formats that have a place for it.
        """
        raise NotImplementedError

    def fail(self, problem: StreamFailure) -> list[Event]:
        """What ends a stream whose answer is not whole: an error that the format's clients can't overlook."""
        raise NotImplementedError


class Native(Dialect):
    """The run's own events, as they are stored. What a reader is behind with comes in as few events as can say it.

    A client keeps what it has read. So there is no prelude, and a reader that comes back gets nothing twice.
    """

    name: ClassVar[str] = "native"
    plain: ClassVar[bool] = True

    def skip(self, part: Part) -> None:
        """The client has it."""

    def skip_event(self, event: str, data: str) -> None:
        """The client has it."""

    def begin(self) -> list[Event]:
        """Nothing."""
        return []

    def prelude(self) -> list[Event]:
        """Nothing: a native client keeps what it has read."""
        return []

    def write(self, part: Part) -> list[Event]:
        """The event that the part is stored as."""
        return [event_of(part)]

    def goodbye(self, wait: int) -> list[Event]:
        """The goodbye of every stream."""
        return [goodbye(wait)]

    def close(self, result: Any) -> list[Event]:
        """The run's last event."""
        return [End("done", result=result).event()]

    def fail(self, problem: StreamFailure) -> list[Event]:
        """The run's last event."""
        assert problem.code != "goodbye", "that one has a method of its own"
        return [End(problem.code, {"type": problem.type, "message": problem.message}).event()]
