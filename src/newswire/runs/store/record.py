"""What the log knows of a run: a record, in a channel of its own; and the names of the channels that runs use.

    $runs.out.<id>       what the run's readers get, with `newswire.end` as the last event
    $runs.run.<id>       its record; each event is the whole record, the newest one counts
    $runs.name.<name>    the ids of everybody's runs that were started under a name, the newest last
    $runs.owner.<hash>.<name>    the same for one owner's
    $runs.secret         one random text: what makes the ids of this log's runs impossible to guess
    $runs.worker.<id>    heartbeats of a process that produces runs, and verdicts that it is dead

A record changes only under the condition that it is still the newest (`Log.append_if`), and everything that a producer
writes is stored under the same condition. So a run has one producer and one end, whoever tries at once.

Processes of several versions may share a log. One passes over the fields of a record that it does not know, and writes
them again, as they were, with whatever it changes. So a later version may add a field if it stays true beside changes
by those who don't know it; and what must not be overlooked needs another state, or another channel.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias

from newswire.errors import InvalidChannel, LogCorrupt
from newswire.log.channels import Pattern, check_channel
from newswire.log.engine import Entry
from newswire.runs.dialects.base import End, Head
from newswire.wire.event import Event

_ID_CHARACTERS: Final = 20
_ID: Final = re.compile(rf"[^\s*>]{{1,200}}\.[a-z2-7]{{{_ID_CHARACTERS}}}")
MAX_NAME_BYTES: Final = 200  # with what ids and channels add, under the 255 that a channel may have
RECORDS: Final = Pattern("$runs.run.>")
WORKERS: Final = Pattern("$runs.worker.>")

SECRET: Final = "$runs.secret"

State: TypeAlias = Literal["waiting", "running", "ended"]


class Anyone(str):
    """No text that comes from outside is one: it is known by its type."""

    __slots__ = ()


ANYONE: Final = Anyone("anyone")
"""As `owner`: whosever run it is. For the application's own code, never for what a request asks."""


def out_channel(run_id: str) -> str:
    """Where a run's readers read."""
    return f"$runs.out.{run_id}"


def record_channel(run_id: str) -> str:
    """Where a run's record is."""
    return f"$runs.run.{run_id}"


def name_channel(name: str, owner: str | None, secret: bytes) -> str:
    """Where the ids of an owner's runs of a name are; owner None: everybody's."""
    return f"$runs.name.{name}" if owner is None else f"$runs.owner.{_digest(secret, ['owner', owner])}.{name}"


def worker_channel(worker: str) -> str:
    """Where a worker's heartbeats are."""
    return f"$runs.worker.{worker}"


def check_owner(owner: object) -> None:
    """Check what names a user; None is no one.

    Raises:
        TypeError: it is no text, and so no run's owner.
    """
    if owner is not None and not isinstance(owner, str):
        raise TypeError(f"an owner is a str, such as str(user.id), not {type(owner).__name__}")


def check_name(name: str) -> str:
    """Return `name`, as a str and nothing else, if runs can be started under it.

    Raises:
        InvalidChannel: it breaks the rules of channel names, or is too long.
    """
    check_channel(name)
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        raise InvalidChannel(name, f"a run's name has at most {MAX_NAME_BYTES} bytes; this one has {size}")
    return str.__str__(name)  # an Enum of str would stand in a run's id by its own name


def new_id(name: str, owner: str | None, key: str | None, secret: bytes) -> str:
    """The id of a run: its name, and 100 bits that are random, or that the key, the owner and the log's secret give.

    One owner's key leads to one run, whichever process asks; and to none of another owner's. A key that is easy to
    guess gives an id that is not.
    """
    if key is None:
        return f"{name}.{_base32(secrets.token_bytes(13))}"
    return f"{name}.{_digest(secret, [name, owner, key])}"


def _digest(secret: bytes, texts: Sequence[str | None]) -> str:
    return _base32(hmac.digest(secret, json.dumps(texts).encode(), "sha256"))


def _base32(digest: bytes) -> str:
    return base64.b32encode(digest).decode()[:_ID_CHARACTERS].lower()


def is_id(text: str) -> bool:
    """Whether a text looks like a run's id: what does not is no run's."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run as the log has it.

    Attributes:
        id, name: which run, and what it was started under.
        state: `waiting` for a producer, `running`, or `ended`.
        created: when it was started, in seconds since the Unix epoch.
        begun: the offset after which its events are.
        owner: whose it is; None: everybody's.
        worker: the process that produces it, if one does.
        producer: the name of a registered producer, which another worker can start again.
        args: what that one is called with.
        takeover: whether the run waits for another producer when its worker has died.
        timeout, idle_timeout, abandon_after, claim_within, compact_after, keep_for: see `RunOptions`.
        meta: what the one who started it said of it.
        end, ended_at: how and when it ended.
        last: the offset of the last event that its readers get, if this record was not stored right behind it.
        offset: where in the log this record is; the condition for the next.
        more: fields of a later version, by name, as its JSON has them; those of the end are in its `end`.
    """

    id: str
    name: str
    state: State
    created: float
    begun: int = 0
    owner: str | None = None
    worker: str | None = None
    producer: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    takeover: bool = False
    timeout: float | None = None
    idle_timeout: float | None = None
    abandon_after: float | None = None
    claim_within: float | None = None
    compact_after: float | None = None
    keep_for: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    end: End | None = None
    ended_at: float | None = None
    last: int = 0
    offset: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def last_offset(self) -> int:
        """The offset of the last event of an ended run."""
        return self.last or self.offset - 1

    @property
    def head(self) -> Head:
        """What a dialect knows of it."""
        return Head(self.id, self.created, self.meta)

    def event(self) -> Event:
        """The record as an event of its channel.

        Raises:
            TypeError, ValueError: `args` or `meta` can't be written as JSON.
        """
        found = dict(self.more)
        found.update((name, value) for name in _STORED if (value := getattr(self, name)) != _DEFAULTS.get(name))
        if self.end is not None:
            found["end"] = {**self.more.get("end", {}), **self.end.fields()}
        return Event(json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")), "record")

    @classmethod
    def read(cls, entry: Entry) -> Record:
        """The record in an entry of its channel, whichever version has stored it.

        Raises:
            LogCorrupt: it is none.
        """
        try:
            known, more = _split(json.loads(entry.data), [*_STORED, "end"])
            if (end := known.get("end")) is not None:
                end, more_of_it = _split(end, _OF_ENDS)
                known["end"] = End(**end)
                if more_of_it:
                    more["end"] = more_of_it
            if not known.get("begun"):
                known["begun"] = entry.offset  # the first record of a run can't have it
            return cls(**known, offset=entry.offset, more=more)
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise LogCorrupt(f"{entry.channel} has no record of a run at offset {entry.offset}: {error}") from error


_STORED: Final = [each.name for each in fields(Record) if each.name not in ("offset", "end", "more")]
_OF_ENDS: Final = [each.name for each in fields(End)]
# What is left out of the JSON; `dataclasses.asdict` would also copy all that is in it.
_DEFAULTS: Final = {
    **{each.name: each.default for each in fields(Record) if each.default is not MISSING},
    **{each.name: each.default_factory() for each in fields(Record) if each.default_factory is not MISSING},
}


def read_end(data: str) -> End:
    """The end that the last event of a run tells, whichever version has stored it."""
    return End(**_split(json.loads(data), _OF_ENDS)[0])


def _split(found: dict[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of those names, and the others."""
    known = {name: found.pop(name) for name in names if name in found}
    return known, found
