"""Leases in the log: the heartbeats of this process, and what it may say about others'. docs/explain/leases.md has why.

Each process has a channel of its own. Its heartbeats are stored there under the condition that its last one is still
the newest event. What others say of it (a suspicion, then a verdict) goes into the same channel under the same kind of
condition. So one of the two comes first, and both know which. `newswire.hub.liveness` says when there is something to
say. Workers of runs and nodes with members both live by these; each has channels and leases of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from newswire.errors import LogCorrupt
from newswire.hub.liveness import Heartbeat, Liveness
from newswire.log.engine import Condition, Entry
from newswire.log.log import Log
from newswire.wire.event import Event


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
            self.own = 0 if entry is None else self.take(entry).offset
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
            beats[name] = Heartbeat(0 if entry is None else entry.offset, self._lease)  # it is silent, if it is at all
            if entry is not None:
                with suppress(LogCorrupt):
                    beats[name] = self.take(entry)
        self._liveness.look(beats, monotonic())
        dead = {}
        for name, beat in self._liveness.overdue().items():
            said = "gone" if beat.suspected else "suspected"
            offset = await self._store(name, json.dumps({"lease": beat.lease, said: True}), beat.offset)
            if offset is not None and beat.suspected:  # else it lives, somebody else was faster, or it may answer now
                dead[name] = offset
        return dead

    async def _store(self, name: str, data: str, after: int) -> int | None:
        """Store an event behind the one at an offset; None: there is a newer one, and nothing was stored."""
        channel = self._prefix + name
        stored = await self._log.append_if([(channel, Event(data, "heartbeat"))], Condition(channel, after))
        return None if stored is None else stored[0].offset
