"""Who may judge that a worker is dead: a random walk over what one process reads of the heartbeats of others."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from newswire.runs.liveness import Beat, Liveness

LEASE = 8.0


@given(st.lists(st.tuples(st.floats(0.01, 30.0), st.booleans()), max_size=60))
@settings(max_examples=300, deadline=None)
def test_nobody_is_dead_before_a_whole_lease_of_attention(looks: list[tuple[float, bool]]) -> None:
    """A worker is dead only after three quarters of its lease without a change, seen by looks that follow each other
    closely; a process that has just begun, or that did not look for half a lease, takes a whole lease.
    """
    liveness = Liveness(LEASE)
    now, offset = 100.0, 1
    read = begun = None
    last = now
    for pause, beats in looks:
        now += pause
        if begun is None or now - last > LEASE / 2:
            begun = now
        if beats or read is None:
            offset += beats
            read = now
        last = now
        liveness.look({"b": Beat(offset, LEASE)}, now)
        if liveness.dead():
            assert now - read >= 0.75 * LEASE
            assert now - begun >= LEASE or read > begun
            assert liveness.dead() == {"b": Beat(offset, LEASE)}


def test_a_silent_worker_is_dead_within_its_lease() -> None:
    """A process that looks all the time sees a worker dead three quarters of a lease after its last heartbeat."""
    liveness = Liveness(LEASE)
    for tick in range(20):
        liveness.look({"b": Beat(tick, LEASE)}, float(tick))
    for tick in range(20, 25):
        liveness.look({"b": Beat(19, LEASE)}, float(tick))
        assert not liveness.dead()
    liveness.look({"b": Beat(19, LEASE)}, 25.0)
    assert liveness.dead()


def test_a_worker_is_judged_by_its_own_lease() -> None:
    """A worker that promises a heartbeat less often has more time than its judge would have itself."""
    liveness = Liveness(2.0)
    for tick in range(40):
        liveness.look({"slow": Beat(1, 60.0), "fast": Beat(1, 2.0)}, tick / 2)
    assert set(liveness.dead()) == {"fast"}


def test_a_worker_that_is_watched_again_begins_again() -> None:
    """What was known of a worker that produced nothing for a while does not count against it."""
    liveness = Liveness(LEASE)
    for tick in range(6):
        liveness.look({"b": Beat(1, LEASE)}, float(tick))
    liveness.look({}, 6.0)
    for tick in range(7, 15):
        liveness.look({"b": Beat(1, LEASE)}, float(tick))
        assert not liveness.dead()
