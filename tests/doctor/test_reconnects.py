"""What a reconnect is found to do wrong, beside what the first connection got."""

from __future__ import annotations

from typing import Any

import pytest

from newswire.doctor.reconnects import is_over, resume, unknown_cursor
from newswire.doctor.watch import Watched

STREAM = {"content-type": "text/event-stream"}


def watched(numbers: str = "", *, status: int | None = 200, **more: Any) -> Watched:
    """A connection that got events of these ids, one character each."""
    seen = Watched(status=status, headers=STREAM if status == 200 else {}, seconds=2.0, **more)
    seen.chunks = [(0.1, "".join(f"id: {each}\ndata: event {each}\n\n" for each in numbers).encode())]
    return seen


@pytest.mark.parametrize(
    ("again", "codes"),
    [
        (watched("45678"), []),
        (watched("45"), []),  # the watch ended
        (watched("4589"), []),
        (watched("3456"), ["resume-repeats"]),
        (watched("44556"), ["resume-repeats"]),
        (watched("567"), ["resume-loses"]),
        (watched(""), ["resume-loses"]),
        (watched("467"), ["resume-loses"]),
        (watched("465"), ["resume-order"]),
        (watched("456", redirects=1, url="http://b/"), ["redirect"]),
        (watched("", ended=True), ["ends", "resume-loses"]),
        (watched(status=401), ["reconnect-auth"]),
        (watched(status=503), ["status"]),
        (watched(status=204), ["cursor-refused"]),
        (watched(status=400), ["cursor-refused"]),
        (watched(status=None), ["head-late"]),
    ],
)
def test_a_reconnect_after_3_of_6(again: Watched, codes: list[str]) -> None:
    """Exactly what came later, in the same order, as far as it was watched."""
    first = watched("123456")
    found = list(resume(first, again, first.events[2]))
    assert [each.code for each in found] == codes


def test_a_loss_that_is_reported_is_none() -> None:
    """newswire's own way to say so."""
    first, again = watched("123456"), watched("6")
    again.chunks.insert(0, (0.0, b"event: newswire.gap\ndata: {}\n\n"))
    assert list(resume(first, again, first.events[2])) == []


def test_events_without_ids_may_be_equal() -> None:
    """Nothing says that they are the same event."""
    first, again = watched("12"), watched("2")
    again.chunks.append((0.2, b"data: x\n\ndata: x\n\n"))
    assert list(resume(first, again, first.events[0])) == []


def test_204_after_the_last_event_of_a_whole_answer_is_its_end() -> None:
    """So an EventSource is stopped; before the last event, it is a loss."""
    first, again = watched("123", ended=True), watched(status=204)
    assert list(resume(first, again, first.events[2])) == []
    assert is_over(first, again, first.events[2])
    assert not is_over(first, again, first.events[1])
    assert not is_over(watched("123"), again, first.events[2])


@pytest.mark.parametrize(
    ("seen", "codes"),
    [
        (watched("1"), []),
        (watched(""), []),
        (watched(status=429), []),
        (watched("1", ended=True), []),
        (watched("", ended=True), ["ends"]),
        (watched(status=500), ["cursor-refused"]),
        (watched(status=None), ["head-late"]),
    ],
)
def test_an_unknown_cursor(seen: Watched, codes: list[str]) -> None:
    """A stream, from wherever."""
    assert [each.code for each in unknown_cursor(seen, watched("1"))] == codes
