"""Which workers are dead, as one process may judge it: `docs/explain/leases.md` has the reasons.

A worker is dead when its newest heartbeat has not changed for three quarters of its lease. The time counts from when
*this* process read the heartbeat, by its own monotonic clock, and only while this process was awake and could read the
log. A process that has just begun, that stood still, or that could not read gives every worker a whole lease.

It holds what was read and does no I/O. The verdict itself is an append under the condition that the heartbeat is still
the newest, so a worker that is alive after all wins against any judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SILENCE: Final = 0.75  # of a lease: a worker that is silent for so long is dead
_AWAKE: Final = 0.25  # of a lease: between two looks, no more counts as silence
_STOOD_STILL: Final = 0.5  # of a lease: who has not looked for longer has to begin again


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's newest heartbeat.

    Attributes:
        offset: where in the log it is; 0: there is none.
        lease: the worker's own lease, in seconds.
    """

    offset: int
    lease: float


@dataclass(slots=True)
class _Watched:
    beat: Beat
    silent: float  # seconds; negative at first where a whole lease is to pass


class Liveness:
    """What one process has read of the heartbeats of others.

    Args:
        lease: this process's own, in seconds; it says how often it looks.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._watched: dict[str, _Watched] = {}
        self._looked: float | None = None

    def look(self, beats: Mapping[str, Beat], at: float) -> None:
        """Note the newest heartbeats of all workers that matter now.

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
                watched[worker] = _Watched(beat, -(1 - _SILENCE) * beat.lease)
            elif known.beat.offset != beat.offset:
                watched[worker] = _Watched(beat, 0.0)
            else:
                watched[worker] = _Watched(beat, known.silent + min(passed, _AWAKE * beat.lease))
        self._watched = watched

    def dead(self) -> dict[str, Beat]:
        """The workers that were silent for too long, with the heartbeat that was their last."""
        return {
            worker: each.beat for worker, each in self._watched.items() if each.silent >= _SILENCE * each.beat.lease
        }
