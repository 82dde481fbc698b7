"""What a reader with a contract gets: an event whose data is a value of the declared type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, get_args, get_origin

from newswire.wire.event import Named

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # only a type checker needs it
else:
    from typing import TypeVar

N = TypeVar("N", bound=str, covariant=True)
D = TypeVar("D", covariant=True)


@dataclass(frozen=True, slots=True)
class TypedEvent(Named[N], Generic[N, D]):
    """An event of a contract, with its data as a value.

    `TypedEvent[Literal["price"], Price]` also declares an event: a union of such types is a contract, and a type
    checker then knows from `event.event` which data the event has.

    Attributes:
        event: its name.
        data: its data, of the type that the contract declares for this name.
        id: the text of its position.
        channel: the channel, where the stream says it.
    """

    event: N
    data: D
    id: str | None = None
    channel: str | None = None


def declared(kind: Any) -> tuple[str, Any] | None:
    """The name and the type of `TypedEvent[Literal[name], type]`; None for any other type."""
    if get_origin(kind) is not TypedEvent:
        return None
    literal, data = get_args(kind)
    names = get_args(literal)
    return (names[0], data) if len(names) == 1 and isinstance(names[0], str) else None
