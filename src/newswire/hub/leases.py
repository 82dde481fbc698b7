"""Leases in the log: the heartbeats of this process, and what it may say about others'. docs/explain/leases.md has why.

Each process has a channel of its own. Its heartbeats are stored there under the condition that its last one is still
the newest event. What others say of it (a suspicion, then a verdict) goes into the same channel under the same kind of
condition. So one of the two comes first, and both know which. Workers of runs and nodes with members both live
by these; each has channels and leases of its own.

`Liveness` says which of them are dead, as one process may judge it. A worker whose newest heartbeat has not changed for
half of its lease is suspected: the suspicion is stored in its channel, and a worker that lives answers with a
heartbeat. One that has not answered for a quarter more is dead. All times count from when *this* process read what is
in the channel, by its own monotonic clock, and only while this process was awake and could read the log. A process that
has just begun, that stood still, or that could not read gives a whole lease.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from newswire.errors import LogCorrupt
from newswire.log.engine import Condition, Entry
from newswire.log.log import Log
from newswire.wire.event import Event

_SILENCE: Final = 0.5  # of a lease, without a heartbeat: a suspicion
_NO_ANSWER: Final = 0.25  # of a lease, without an answer to the suspicion: a verdict
_AWAKE: Final = 0.25  # of a lease: between two looks, no more counts as silence
_STOOD_STILL: Final = 0.5  # of a lease: a process that has not looked for longer begins again


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The newest event of a worker's channel.

    Attributes:
        offset: where in the log it is; 0: there is none.
        lease: the worker's own lease, in seconds.
        suspected: it is a suspicion, and no heartbeat.
    """

    offset: int
    lease: float
    suspected: bool = False

    @property
    def allowed_silence(self) -> float:
        """Seconds of silence after it that have a consequence."""
        return (_NO_ANSWER if self.suspected else _SILENCE) * self.lease

    @property
    def whole_lease(self) -> float:
        """Seconds of silence at the beginning, below zero, so that a whole lease passes before a verdict."""
        return ((_NO_ANSWER if self.suspected else _SILENCE + _NO_ANSWER) - 1) * self.lease


@dataclass(slots=True)
class _Watched:
    beat: Heartbeat
    silent: float  # seconds


class Liveness:
    """What one process has read of the heartbeats of others.

    Args:
        lease: this process's own, in seconds; it says how often it looks.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._watched: dict[str, _Watched] = {}
        self._looked: float | None = None

    def look(self, beats: Mapping[str, Heartbeat], at: float) -> None:
        """Note the newest events of the channels of all workers that matter now.

        Args:
            beats: by worker. A worker that is not among them is forgotten.
            at: when they had been read, by the monotonic clock.
        """
        looked, self._looked = self._looked, at
        passed = 0.0 if looked is None else at - looked
        begin_again = looked is None or passed > _STOOD_STILL * self._lease
        watched: dict[str, _Watched] = {}
        for worker, beat in beats.items():
            known = self._watched.get(worker)
            if known is None or begin_again:
                watched[worker] = _Watched(beat, beat.whole_lease)
            elif known.beat.offset != beat.offset:
                watched[worker] = _Watched(beat, 0.0)
            else:
                watched[worker] = _Watched(beat, known.silent + min(passed, _AWAKE * beat.lease))
        self._watched = watched

    def overdue(self) -> dict[str, Heartbeat]:
        """The workers that were silent for too long: those suspected are dead, the others are to be suspected."""
        return {worker: each.beat for worker, each in self._watched.items() if each.silent >= each.beat.allowed_silence}


class Leases:
    """The leases of one kind of process.

    Args:
        log: where they are.
        prefix: of their channels; the name of a process follows.
        name: this process's.
        lease: its lease, in seconds.
        taken: called with each heartbeat that was read from the log here, its process and its data.

    Attributes:
        own: the offset of this process's newest heartbeat; 0: it has given none.
    """

    def __init__(
        self, log: Log, prefix: str, name: str, lease: float, *, taken: Callable[[Entry, str, Mapping[str, Any]], None]
    ) -> None:
        self.own: int = 0
        self._log = log
        self._prefix = prefix
        self._name = name
        self._lease = lease
        self._taken = taken
        self._liveness = Liveness(lease)

    def take(self, entry: Entry) -> Heartbeat:
        """Take note of an event of these channels.

        Raises:
            LogCorrupt: it is no heartbeat.
        """
        name = entry.channel.removeprefix(self._prefix)
        try:
            data = json.loads(entry.data)
            found = Heartbeat(entry.offset, float(data["lease"]), bool(data.get("suspected")))
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise LogCorrupt(f"{entry.channel} has no heartbeat at offset {entry.offset}: {error!r}") from error
        self._taken(entry, name, data)
        return found

    async def renew(self, **more: object) -> None:
        """Store a heartbeat behind this process's last one, or behind the verdict that came in between.

        Args:
            more: what it says beside the lease.
        """
        data = json.dumps({"lease": self._lease, **more})
        while (offset := await self._store(self._name, data, self.own)) is None:
            [entry] = await self._log.newest([self._prefix + self._name])
            self.own = await self._lost(self._name) if entry is None else self.take(entry).offset
        self.own = offset

    async def judge(self, names: Iterable[str]) -> dict[str, int]:
        """Read the newest heartbeats of others, and store a suspicion or a verdict for each that was silent too long.

        Args:
            names: all whose death would matter now.

        Returns:
            the offsets of the verdicts that this process has stored, by name.
        """
        ordered = sorted(names)
        entries = await self._log.newest([self._prefix + name for name in ordered]) if ordered else []
        beats: dict[str, Heartbeat] = {}
        for name, entry in zip(ordered, entries, strict=True):
            offset = await self._lost(name) if entry is None else entry.offset
            beats[name] = Heartbeat(offset, self._lease)  # it is silent, if it is at all
            if entry is not None:
                with suppress(LogCorrupt):
                    beats[name] = self.take(entry)
        self._liveness.look(beats, monotonic())
        dead: dict[str, int] = {}
        for name, beat in self._liveness.overdue().items():
            change = "gone" if beat.suspected else "suspected"
            stored = await self._store(name, json.dumps({"lease": beat.lease, change: True}), beat.offset)
            if stored is not None and beat.suspected:  # else it lives, somebody else was faster, or it may answer now
                dead[name] = stored
        return dead

    async def _lost(self, name: str) -> int:
        """The offset of a process's newest heartbeat, if the log has removed all of them by itself; else 0."""
        return await self._log.lost(self._prefix + name)

    async def _store(self, name: str, data: str, after: int) -> int | None:
        """Store an event behind the one at an offset; None: there is a newer one, and nothing was stored."""
        channel = self._prefix + name
        stored = await self._log.append_if([(channel, Event(data, "heartbeat"))], Condition(channel, after))
        return None if stored is None else stored[0].offset
