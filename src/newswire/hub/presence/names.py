"""The channels that presence has in the log, and the data of the events in each.

| channel | newest event |
| --- | --- |
| `$presence.here.CHANNEL.MEMBER` | what readers get: the member has joined, its state, or it has left |
| `$presence.held.CHANNEL.MEMBER` | which nodes have a stream of the member; only nodes read it |
| `$presence.visitors.CHANNEL.NODE` | how many visitors a node has |
| `$presence.node.NODE` | the lease of a node |

A member's token is made by `channel`, so it is one token, whatever the id is: `$presence.here.room.*` has the members
of `room` and none of `room.1`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from newswire.errors import InvalidChannel
from newswire.log.channels import MAX_CHANNEL_BYTES, Pattern, check_channel
from newswire.log.channels import channel as channel_of
from newswire.wire.payload import write_json

ALL: Final = Pattern("$presence.>")
HERE: Final = "$presence.here."
HELD: Final = "$presence.held."
VISITORS: Final = "$presence.visitors."
NODES: Final = "$presence.node."
_MOST: Final = MAX_CHANNEL_BYTES - len(VISITORS) - 81  # bytes of a channel's name; a member's token has 80 at most


def check(channel: str) -> str:
    """Return `channel` if it can have members.

    Raises:
        InvalidChannel: it breaks the rules, is a pattern, or is too long.
    """
    if isinstance(channel, Pattern) and ("*" in channel or ">" in channel):
        raise InvalidChannel(channel, f"members are on a channel, and {channel!r} is a pattern: name the channel")
    check_channel(channel)
    if len(channel.encode()) > _MOST:
        raise InvalidChannel(channel, f"a channel with members has a name of at most {_MOST} bytes: shorten it")
    return str(channel)


def here(channel: str, member: str) -> str:
    """Where readers of a channel see a member."""
    return f"{HERE}{channel}.{channel_of(member)}"


def held(channel: str, member: str) -> str:
    """Where nodes note that they have a member."""
    return f"{HELD}{channel}.{channel_of(member)}"


def visitors(channel: str, node: str) -> str:
    """Where a node notes how many visitors it has."""
    return f"{VISITORS}{channel}.{node}"


def members_of(channel: str) -> Pattern:
    """Where readers see all members of a channel."""
    return Pattern(f"{HERE}{channel}.*")


def note_held(key: tuple[str, str], nodes: Iterable[str], given: str) -> str:
    """The data of an event that says which nodes have a member."""
    channel, member = map(write_json, key)
    return f'{{"channel":{channel},"member":{member},"nodes":{write_json(sorted(nodes))},"given":{given}}}'


def note_here(key: tuple[str, str], change: str, state: str | None) -> str:
    """The data of an event that readers get."""
    channel, member = key
    text = f'{{"channel":{write_json(channel)},"member":{write_json(member)},"change":"{change}"'
    return text + ("}" if state is None else f',"state":{state}}}')


def note_visitors(channel: str, node: str, count: int) -> str:
    """The data of an event that says how many visitors a node has."""
    return write_json({"channel": channel, "node": node, "count": count})
