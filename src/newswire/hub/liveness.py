"""Which workers are dead, as one process may judge it: `docs/explain/leases.md` has the reasons.

A worker whose newest heartbeat has not changed for half of its lease is suspected: the suspicion is stored in its
channel, and a worker that lives answers with a heartbeat. One that has not answered for a quarter more is dead. All
times count from when *this* process read what is in the channel, by its own monotonic clock, and only while this
process was awake and could read the log. A process that has just begun, that stood still, or that could not read gives
a whole lease.

What is here holds what was read, and does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

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
