"""Which process may judge that a worker is dead: a random walk over the heartbeats that one reads of others."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from newswire.hub.leases import Heartbeat, Liveness

LEASE = 8.0


@given(st.lists(st.tuples(st.floats(0.01, 30.0), st.booleans()), max_size=60))
@settings(max_examples=300, deadline=None)
def test_nobody_is_dead_before_a_whole_lease_of_attention(looks: list[tuple[float, bool]]) -> None:
    """A worker is dead only after half of its lease without a heartbeat and a quarter without an answer, seen by looks
    that follow each other closely; a process that has just begun, or that did not look for half a lease, takes a whole
    lease.
    """
    liveness = Liveness(LEASE)
    now, offset = 100.0, 1
    read = begun = None
    last = now
    suspected: float | None = None
    for pause, beats in looks:
        now += pause
        if begun is None or now - last > LEASE / 2:
            begun = now
        if beats or read is None:
            offset += beats
            read, suspected = now, None
        last = now
        liveness.look({"b": Heartbeat(offset, LEASE, suspected is not None)}, now)
        for beat in liveness.overdue().values():
            assert now - read >= LEASE / 2
            assert beat == Heartbeat(offset, LEASE, suspected is not None)
            if suspected is None:
                offset += 1
                suspected = now
            else:
                assert now - suspected >= LEASE / 4
                assert now - begun >= LEASE or read > begun


def test_a_silent_worker_is_dead_within_its_lease() -> None:
    """A process that looks all the time sees a worker dead three quarters of a lease after its last heartbeat."""
    liveness = Liveness(LEASE)
    for tick in range(20):
        liveness.look({"b": Heartbeat(tick, LEASE)}, float(tick))
    for tick in range(20, 23):
        liveness.look({"b": Heartbeat(19, LEASE)}, float(tick))
        assert not liveness.overdue()
    liveness.look({"b": Heartbeat(19, LEASE)}, 23.0)
    assert liveness.overdue()
    for tick in range(24, 26):
        liveness.look({"b": Heartbeat(30, LEASE, suspected=True)}, float(tick))
        assert not liveness.overdue()
    liveness.look({"b": Heartbeat(30, LEASE, suspected=True)}, 26.0)
    assert liveness.overdue()


def test_a_worker_is_judged_by_its_own_lease() -> None:
    """A worker that promises a heartbeat less often has more time than its judge would have itself."""
    liveness = Liveness(2.0)
    for tick in range(20):
        liveness.look({"slow": Heartbeat(1, 60.0), "fast": Heartbeat(1, 2.0)}, tick / 2)
    assert set(liveness.overdue()) == {"fast"}


def test_a_worker_that_is_watched_again_begins_again() -> None:
    """What was known of a worker that produced nothing for a while does not count against it."""
    liveness = Liveness(LEASE)
    for tick in range(6):
        liveness.look({"b": Heartbeat(1, LEASE)}, float(tick))
    liveness.look({}, 6.0)
    for tick in range(7, 13):
        liveness.look({"b": Heartbeat(1, LEASE)}, float(tick))
        assert not liveness.overdue()
