"""The run's own events, for clients that know them: as they are stored, but what a reader is behind with put together.

A reader that has fallen behind, or comes late, gets the text that it lacks as one event instead of thousands. Its state
is its own, so a reader that comes back is told nothing twice: there is no prelude.
"""

from __future__ import annotations

from typing import Any, ClassVar

from newswire.runs.dialects.base import Dialect, End, Problem
from newswire.runs.parts import Part, event_of
from newswire.wire.event import Event
from newswire.wire.goodbye import goodbye


class Native(Dialect):
    """Stored events, neighbours merged."""

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

    def fail(self, problem: Problem) -> list[Event]:
        """The run's last event."""
        assert problem.code != "goodbye", "that one has a method of its own"
        return [End(problem.code, {"type": problem.type, "message": problem.message}).event()]
