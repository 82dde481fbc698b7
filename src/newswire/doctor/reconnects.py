"""What is wrong with a reconnect: what a reader gets that says which event it has. Used by `examine`."""

from __future__ import annotations

from collections import Counter
from typing import Final

from newswire.doctor.checks import Findings, own_events
from newswire.doctor.findings import Severity, finding
from newswire.doctor.watch import Block, Watched

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

BUSY: Final = frozenset({429, 503})  # what a server answers that lets in no more for now


def resume(first: Watched, again: Watched, after: Block) -> Findings:
    """Whether a reader that reconnects gets what came after its last event, and only that.

    Args:
        first: the first connection.
        again: the second, which said the id of `after`.
        after: an event of the first.
    """
    if again.status is None and again.error is None:
        yield finding("head-late", ERROR, f"a reconnect got no answer in {again.seconds:.0f} s")
        return
    if again.status in BUSY:  # for another reason than its cursor
        yield finding("status", ERROR, f"a reconnect got {_answer(again)}")
        return
    if again.status in (401, 403):
        yield finding("reconnect-auth", ERROR, f"a reconnect with the same credentials got {_answer(again)}")
        return
    if is_over(first, again, after):
        return
    if not again.is_stream:
        yield finding("cursor-refused", ERROR, f"a reconnect with a Last-Event-ID got {_answer(again)}")
        return
    if again.redirects > first.redirects:
        yield finding("redirect", NOTE, f"a reconnect is redirected to {again.url[:200]}")
    if again.ended and not first.ended and not own_events(again):
        yield finding("ends", WARNING, f"the answer to a reconnect ended after 0 events and {again.seconds:.1f} s")
    yield from _sequence(first, again, after)


def is_over(first: Watched, again: Watched, after: Block) -> bool:
    """Whether the answer to a reader that has a whole answer is 204, which ends an EventSource for good."""
    return again.status == 204 and first.ended and after is own_events(first)[-1]


def _sequence(first: Watched, again: Watched, after: Block) -> Findings:
    """The events of a reconnect, beside those that came after its cursor on the first connection."""
    own, found = own_events(first), own_events(again)
    if any(event.kind == "newswire.gap" for event in found):
        return  # the reader knows that it has not all
    place = next(index for index, event in enumerate(own) if event is after)
    earlier = {_key(event) for event in own[: place + 1]}
    later = [event for event in own[place + 1 :] if event.values("id")]
    keys = [_key(event) for event in found]
    named = Counter((event.last("id"), event.data) for event in found if event.last("id"))
    start = f"a reconnect after {after.last('id')!r:.60} got "
    repeated = next((event for event in found if _key(event) in earlier), None)
    twice = next((name for (name, _), times in named.items() if times > 1), None)
    places = {_key(event): index for index, event in enumerate(later)}
    order = [places[key] for key in keys if key in places]
    if repeated is not None:
        yield finding("resume-repeats", WARNING, f"{start}{repeated.last('id')!r:.60} again")
    elif twice is not None:
        yield finding("resume-repeats", WARNING, f"{start}{twice!r:.60} twice")
    elif later and _key(later[0]) not in keys:
        got = repr(found[0].last("id"))[:60] if found else "nothing"
        what = f"after {after.last('id')!r:.60} came {later[0].last('id')!r:.60}, and a reconnect got {got} instead"
        yield finding("resume-loses", WARNING, what)
    elif order != sorted(order):
        index = next(index for index in range(1, len(order)) if order[index] < order[index - 1])
        sooner, late = (later[order[each]].last("id") for each in (index - 1, index))
        yield finding(
            "resume-order", WARNING, f"{start}{late!r:.60} after {sooner!r:.60}, which came the other way round"
        )
    elif order and len(order) <= order[-1]:
        missing = next(index for index, each in enumerate(order) if each != index)
        yield finding("resume-loses", WARNING, f"{start}what came later, and not {later[missing].last('id')!r:.60}")


def unknown_cursor(seen: Watched, first: Watched) -> Findings:
    """A Last-Event-ID that no server has given out.

    Args:
        seen: the connection that said it.
        first: the connection that was watched.
    """
    if seen.status in BUSY:
        return
    what = "a Last-Event-ID that the server does not know got"
    if seen.status is None and seen.error is None and seen.cut is None:
        yield finding("head-late", ERROR, f"{what} no answer in {seen.seconds:.0f} s")
    elif not seen.is_stream and (seen.status is not None or seen.cut is not None):
        yield finding("cursor-refused", ERROR, f"{what} {_answer(seen)}")
    elif seen.ended and not first.ended and not seen.events:
        yield finding("ends", WARNING, f"{what} a stream that ended after 0 events and {seen.seconds:.1f} s")


def _key(event: Block) -> tuple[str, ...]:
    """What makes it the same event: its id, or all of it."""
    name = event.last("id")
    return (name,) if name else (event.kind, event.data)


def _answer(seen: Watched) -> str:
    if seen.status is None:
        return seen.error or "no answer"
    return f"{seen.status}, {seen.headers.get('content-type', 'no Content-Type')[:60]}"
