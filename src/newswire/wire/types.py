"""Event types: what knows the type of each event's data, and makes values of events.

`newswire.contract.Contract` is one. The sources of `newswire.client` read with it; the two floors meet only here, and
so does what both have to know of pydantic.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_type_hints, is_typeddict

from newswire.validate import check_plain
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


def check_unknown(unknown: object) -> None:
    """Check that an argument is an `Unknown`.

    Raises:
        ValueError: it is not.
        TypeError: it is an async function.
    """
    if unknown not in ("skip", "raise") and not callable(unknown):
        raise ValueError(f"unknown is 'skip', 'raise' or a function, not {unknown!r:.60}")
    check_plain("unknown", unknown)


def shown_event(event: Event) -> str:
    """An event as errors name it."""
    return f"event {event.id}" if event.id else "an event"


def with_extensions(model: Any) -> Any:
    """A TypedDict as pydantic wants it before Python 3.12: made by `typing_extensions`, which pydantic brings."""
    if sys.version_info >= (3, 12) or not is_typeddict(model):
        return model
    import typing_extensions

    hints = get_type_hints(model, include_extras=True)
    return typing_extensions.TypedDict(model.__name__, hints, total=model.__total__)  # type: ignore[operator]
