"""What one subscription to channels with a state is due, while it is not among the ready ones of its group.

A reader that comes, returns, or has fallen behind by more than its connection takes in a moment gets the newest event
of each channel that has changed since its cursor, from the table (`newswire.hub.latest`): a **pass**, up to the newest
event that there is when it begins. What comes meanwhile it gets as any reader does, or in another pass if that is too
much. When nothing is left it gets `newswire.live`, and from there the exact tail. Channels of the same subscription
that have no state come exactly all the time, merged in the order of the log, under the one cursor.

It holds a few numbers and no events.
"""

from __future__ import annotations

from time import monotonic
from typing import Final, Protocol

from newswire.hub.history import History, HistoryReader
from newswire.hub.latest import FORGOTTEN, LatestTable
from newswire.hub.options import Pace
from newswire.hub.window import Due
from newswire.log.channels import Channels

# What a slow reader is given at once it takes before it gets something newer. So it is what its connection took in the
# last time, in this many seconds; and no less than a kilobyte, which is a few events. A reader that is behind by no
# more than this gets all events.
_AHEAD: Final = 0.25
_LEAST: Final = 2**10
_FIRST: Final = 16 * 2**10  # until it is known how fast it reads: what a slow one may hold
_NOT_BEGUN: Final = -1


class Conflated(HistoryReader, Protocol):
    """A subscription, as its view sees it.

    Attributes:
        cursor: its offset.
        pace: how its events are held back.
    """

    cursor: int
    pace: Pace | None


class _Exact:
    """The reader of the channels without a state."""

    __slots__ = ("_member", "_view", "channels")

    def __init__(self, member: Conflated, channels: Channels, view: StateView) -> None:
        self.channels = channels
        self._member = member
        self._view = view

    @property
    def cursor(self) -> int:
        """See `newswire.hub.history.HistoryReader`."""
        return max(self._member.cursor, self._view.first)

    def wake(self) -> None:
        """Ask again now."""
        self._member.wake()


class StateView:
    """Answers for one subscription.

    Args:
        member: the subscription.
        state, exact: its channels with and without a state.
        table, history: where the answers come from.
        first: an offset up to which channels without a state are not wanted; 0: all are.

    Attributes:
        marks: whether it gets a marker when nothing is left.
        first: see above.
        budget: how many bytes it is given at once.
    """

    __slots__ = (
        "_begins",
        "_exact",
        "_forgotten",
        "_full_since",
        "_history",
        "_member",
        "_pass",
        "_state",
        "_table",
        "_reported",
        "budget",
        "first",
        "marks",
    )

    def __init__(
        self,
        member: Conflated,
        state: Channels,
        exact: Channels | None,
        *,
        table: LatestTable,
        history: History,
        first: int,
    ) -> None:
        self.marks: bool = True
        self.first: int = first
        self.budget: int = min(_FIRST, history.budget)
        self._full_since = 0.0
        self._pass: int | None = _NOT_BEGUN  # where the present pass ends; None: it gets all events
        self._begins = True  # it is still to be seen whether its cursor is recent enough
        self._forgotten = 0  # … which it was when keys had been removed up to here
        self._reported = False  # … and a gap event says that it is not: all keys come again
        self._member = member
        self._state = state
        self._exact = None if exact is None else _Exact(member, exact, self)
        self._table = table
        self._history = history

    # -- how fast its connection is

    def fell_behind(self) -> None:
        """The member's sink is full."""
        self._full_since = monotonic()

    def took(self) -> None:
        """It took a write and has room for more."""
        self.budget = min(2 * self.budget, self._history.budget)

    def resumed(self) -> None:
        """It has room again: the longer that took, the less the member is given at once."""
        seconds = max(monotonic() - self._full_since, 0.001)
        self.budget = min(max(int(self.budget * _AHEAD / seconds), _LEAST), self._history.budget)

    # -- what it gets

    def begin_again(self, lost: bool) -> None:
        """The log is another one now.

        Args:
            lost: the member's place is not in it.
        """
        self.forget()
        self.marks = True
        self.first = 0 if lost else min(self.first, self._history.window.head)
        self._pass = _NOT_BEGUN
        self._begins, self._reported, self._forgotten = True, False, 0

    def lost(self) -> None:
        """The member gets a gap event. A reader of members takes it as the sign to begin again, whatever is missing."""
        if self._has_removals():
            self._begins = self._reported = self.marks = True
            self._pass = _NOT_BEGUN

    def marked(self) -> None:
        """The member gets its marker."""
        self.marks = False
        self.first = 0

    def due(self, head: int) -> Due | None:
        """What comes after the member's cursor.

        Args:
            head: of its group. Up to the marker a member goes on to the newest event that there is, so that it has all
                that changed while it read.

        Returns:
            see `History.due`.
        """
        member, newest = self._member, self._history.window.head
        if member.cursor > newest:
            return self._history.due(member, newest)  # waits for what has not come here yet
        if self._exact is not None and self.first > newest:
            return self._history.due(self._exact, newest)  # the same: what it does not want may be still to come
        upto = newest if self.marks else head
        if member.pace is None or not member.pace.conflate:
            if self._pass is not None and member.cursor >= self._pass >= 0:
                self._pass = None
            if self._pass is None:
                due = self._tail(upto)
                if due is not None:
                    return due
                self._pass, self.marks = _NOT_BEGUN, True
                self._begins = True
            if self._pass == _NOT_BEGUN:
                self._pass = newest
            upto = self._pass
        if not self._table.complete:
            self._table.wait(member)
            return None
        forgotten = self._table.forgotten
        if self._begins or forgotten > self._forgotten:  # the latter, if its connection takes long for a pass
            missed = 0 < member.cursor < forgotten and self._has_removals()
            if missed and not self._reported:
                return Due([], member.cursor, forgotten, certain=False)  # a gap event, at its cursor
            if missed or self._reported:
                self.first, member.cursor = max(self.first, member.cursor), 0
            self._begins = self._reported = False
            self._forgotten = forgotten
        rest = Due([], upto)
        if self._exact is not None and self._exact.cursor < upto:
            found = self._history.due(self._exact, upto)
            if found is None:
                return None
            rest = _upto(found, upto)
        if member.cursor >= upto:
            return Due([], member.cursor)
        state = self._table.due(
            self._state,
            None if self._exact is None else self._exact.channels,
            member.cursor,
            upto=rest.through,
            budget=self.budget,
        )
        if not rest.frames:
            return state._replace(lost=rest.lost, certain=rest.certain)
        frames = sorted(
            [*state.frames, *(frame for frame in rest.frames if frame.offset <= state.through)],
            key=lambda frame: frame.offset,
        )
        return Due(frames, state.through, rest.lost, rest.certain)

    def _has_removals(self) -> bool:
        """Whether it reads channels that are removed, in time, after their last event."""
        prefix = FORGOTTEN.rpartition(".")[0]
        return any(each.startswith(prefix) for each in (*self._state.names, *self._state.patterns))

    def _tail(self, upto: int) -> Due | None:
        """All events after the cursor; None if they are more than one write, or not at hand."""
        cursor, window = self._member.cursor, self._history.window
        if cursor >= upto:
            return Due([], cursor)
        if cursor < window.floor:
            return None
        due = window.due(self._member.channels, cursor, upto=upto, budget=self.budget)
        return due if due.through >= upto else None

    def forget(self) -> None:
        """The member has left."""
        self._table.forget(self._member)
        if self._exact is not None:
            self._history.forget(self._exact)


def _upto(due: Due, upto: int) -> Due:
    """A page may reach further than this process has seen: the table does not."""
    if due.through <= upto:
        return due
    return Due([frame for frame in due.frames if frame.offset <= upto], upto, due.lost, due.certain)
