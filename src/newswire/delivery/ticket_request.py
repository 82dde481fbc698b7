"""The JSON bodies of requests that ask for something else than publishing: tickets, revocations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from newswire.counted import counted
from newswire.delivery.problem import Problem
from newswire.errors import LimitExceeded
from newswire.log.channels import check_pattern
from newswire.wire.payload import is_writable, read_json

MOST_BYTES: Final = 64 * 2**10
_FIRST_USE: Final = (1.0, 600.0)
MOST_NAME: Final = 1000  # characters of a subject or a credential's name: what can't be named can't be revoked


class TicketRequest(NamedTuple):
    """What the body of `POST /tickets` asks for.

    Attributes:
        channels: the channels and patterns that the ticket opens.
        first_use: seconds in which it has to be used.
        subject: the user; None: the one of the request.
    """

    channels: list[str]
    first_use: float
    subject: str | None

    @classmethod
    def of(cls, body: bytes, own: Sequence[str], limit: int) -> Self:
        """Read a body.

        Args:
            body: the request's.
            own: the channels if it names none.
            limit: the most channels.

        Raises:
            Problem, InvalidChannel, LimitExceeded: it asks for what can't be.
        """
        found = members(body, "invalid_ticket", "channels", "ttl", "subject")
        channels = found.get("channels", list(own))
        if not isinstance(channels, list) or not channels or not all(isinstance(one, str) for one in channels):
            raise bad_member(
                "invalid_ticket", "channels", 'channels is a list of names and patterns, such as ["room.1"]'
            )
        if len(channels) > limit:
            detail = f"a ticket has at most {counted(limit, 'channel')}"
            raise Problem(400, "too_many_channels", detail, field="channels", limit=limit)
        for channel in channels:
            check_pattern(channel)
        first_use = found.get("ttl", 30)
        low, high = _FIRST_USE
        if isinstance(first_use, bool) or not isinstance(first_use, (int, float)) or not low <= first_use <= high:
            raise bad_member("invalid_ticket", "ttl", f"ttl is a number of seconds from {low:g} to {high:g}")
        return cls(channels, float(first_use), text_of(found, "subject", "invalid_ticket"))


def members(body: bytes, code: str, *names: str) -> Mapping[str, Any]:
    """The members of the JSON object in a body; none for an empty body.

    Raises:
        Problem: it is no object, or has other members.
        LimitExceeded: it is too large.
    """
    if len(body) > MOST_BYTES:
        raise LimitExceeded("the body's size in bytes", limit=MOST_BYTES, actual=len(body))
    if not body.strip():
        return {}
    try:
        value = read_json(body.decode("utf-8"))
    except ValueError:
        raise bad_member(code, "body", "the body is no JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise bad_member(code, "body", "the body is a JSON object")
    if unknown := value.keys() - set(names):
        detail = f"there is no member {min(unknown)[:40]!r}; what there is: {', '.join(names)}"
        raise bad_member(code, min(unknown)[:40], detail)
    return value


def text_of(found: Mapping[str, Any], name: str, code: str) -> str | None:
    """A member that is a text; None if it is not there.

    Raises:
        Problem: it is something else, or can't be stored.
    """
    value = found.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MOST_NAME or not is_writable(value):
        raise bad_member(code, name, f"{name} is a text of 1 to {MOST_NAME} characters, without lone surrogates")
    return value


def check_subject(subject: str) -> None:
    """Refuse a name that no request can name again.

    Raises:
        ValueError: it is empty, too long, or no text that UTF-8 can write.
    """
    if not is_writable(subject):
        raise ValueError("a subject is a text that UTF-8 can write: this one has bytes that are none")
    if not 0 < len(subject) <= MOST_NAME:
        raise ValueError(f"a subject has 1 to {MOST_NAME:,} characters, and this one {len(subject):,}")


def bad_member(code: str, field: str, detail: str) -> Problem:
    """A 400 about a member."""
    return Problem(400, code, detail, field=field)
