"""Event types: what knows the type of each event's data, and makes values of events.

`newswire.contract.Contract` is one. The sources of `newswire.client` read with it; the two floors meet only here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, Literal, TypeAlias, TypeVar

from newswire.wire.event import Event

E = TypeVar("E", covariant=True)

# What a reader does with an event of an unknown type.
Unknown: TypeAlias = Literal["skip", "raise"] | Callable[[Event], object]


class EventTypes(ABC, Generic[E]):
    """Makes values of events."""

    @abstractmethod
    def read(self, event: Event, unknown: Unknown | None = None) -> E | None:
        """Read an event.

        Args:
            event: as it came.
            unknown: what to do if its type is not known: `skip` it, `raise` an error, or call a function with it. None:
                as the event types say themselves.

        Returns:
            its value; None if its type is not known, and `unknown` is not `raise`.

        Raises:
            BadPayload: the data doesn't fit, or the type is not known and `unknown` is `raise`.
            EventsLost: the event is a gap, and `unknown` is `raise`.
        """
