"""What applications give and get: a member of a channel, a change, and everybody who is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from newswire.errors import LimitExceeded
from newswire.wire.payload import to_event, write_json

_ID_BYTES: Final = 200

Kind: TypeAlias = Literal["join", "update", "leave"]
"""`join`: a member has come. `update`: its state has changed. `leave`: it has gone."""


@dataclass(frozen=True, slots=True)
class Member:
    """The member that a stream belongs to: `hub.subscribe("room.1", presence=Member("ada", {"name": "Ada"}))`.

    Streams with the same id are one member, however many there are and on whichever node.

    Attributes:
        id: who it is, 1 to 200 bytes. None: a visitor, who counts and has no name.
        state: what others see of it: a name, a colour, a cursor. Anything that JSON can say.

    Raises:
        ValueError: the id is too long, or a visitor has a state.
    """

    id: str | None = None
    state: Any = None

    def __post_init__(self) -> None:
        if self.id is None:
            if self.state is not None:
                raise ValueError("a visitor has no state: give the member an id, or leave out the state")
        else:
            check_id(self.id)


def check_id(member: object) -> str:
    """Return `member` if it can be the id of a member.

    Raises:
        ValueError: it can't.
    """
    if not isinstance(member, str) or not 0 < len(member.encode("utf-8", "surrogatepass")) <= _ID_BYTES:
        raise ValueError(f"a member's id is a text of 1 to {_ID_BYTES} bytes, not {member!r:.60}")
    try:
        member.encode()
    except UnicodeEncodeError:
        raise ValueError("a member's id is a text that UTF-8 can write: this one has a lone surrogate") from None
    return member


def state_text(state: Any, most: int) -> str:
    """The state of a member as JSON, in the one form that equal states have.

    Raises:
        InvalidEvent: JSON can't say it.
        LimitExceeded: it has more than `most` bytes.
    """
    text = "null" if state is None else write_json(json.loads(to_event([state]).data)[0])
    if len(text.encode()) > most:
        hint = "keep what is large elsewhere, and put where it is into the state"
        raise LimitExceeded("a member's state in bytes", limit=most, actual=len(text.encode()), hint=hint)
    return text


@dataclass(frozen=True, slots=True)
class MemberChange:
    """One change of the members of a channel.

    Attributes:
        member: whose.
        kind: `join`, `update` or `leave`.
        state: the member's state; None if it has left.
    """

    member: str
    kind: Kind
    state: Any = None
