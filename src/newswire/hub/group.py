"""A group: all subscribers of the same channels in the same form, and what they are due together.

Those of them that have caught up share one cursor, the group's `head`, and get the same chunk in one tight loop (a
**pass**). A member that can't take more leaves the ready ones with a cursor of its own and comes back when it has
caught up. The fan-out calls `step`; the hub feeds `add`. Nothing here touches the log or a clock.

Two rules keep every event exactly once:

* a pass serves those who were ready when it began; whoever joins during it joins at the pass's end position;
* a member may join only at `head`; one that is further already (it read on elsewhere) waits for `head` to reach it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from newswire.hub.frames import HEARTBEAT, Chunk, Form, Frame
from newswire.log.channels import Channels

if TYPE_CHECKING:
    from newswire.hub.fanout import Fanout
    from newswire.hub.subscription import Subscription
    from newswire.hub.window import Window

logger = logging.getLogger("newswire.hub")

# So many writes between two looks at the clock: some 0.4 ms.
STEP: Final = 64


class Group:
    """The subscribers of one set of channels in one form.

    Attributes:
        channels: what they subscribe to.
        head: the offset up to which the ready members have everything, or will once the present pass has ended.
        size: how many members there are, ready or not.
    """

    __slots__ = (
        "_chunk",
        "_fanout",
        "_passing",
        "_pending",
        "_pending_size",
        "_ready",
        "_turn",
        "_waiting",
        "channels",
        "form",
        "head",
        "heartbeat",
        "queued",
        "quiet",
        "size",
    )

    def __init__(self, channels: Channels, form: Form, heartbeat: float | None, fanout: Fanout) -> None:
        self.channels = channels
        self.form = form
        self.heartbeat = heartbeat
        self._fanout = fanout
        self.head = fanout.window.head
        self.size = 0
        self.queued = False  # in the fan-out's run queue
        self.quiet = False  # nothing was written since the heartbeat timer last looked
        self._ready: dict[Subscription, None] = {}
        self._waiting: dict[Subscription, None] = {}
        # What is new since `head`; None once it outgrew the write budget: then the window knows.
        self._pending: list[Frame] | None = []
        self._pending_size = 0
        # The present pass.
        self._passing: list[Subscription] | None = None
        self._turn = 0
        self._chunk: Chunk = HEARTBEAT

    # -- what is new

    def add(self, frame: Frame) -> None:
        """Take note of a new event of these channels."""
        if self._pending is not None:
            self._pending.append(frame)
            self._pending_size += frame.size
            if self._pending_size > self._fanout.options.write_budget:
                self._pending = None
        self._fanout.enqueue(self)

    def lose_track(self) -> None:
        """The window began anew, after something that it never saw: everyone reads on from the log."""
        self._pending = None
        self._fanout.enqueue(self)

    def beat(self) -> None:
        """Send a heartbeat to the ready ones if nothing was sent since the last call but one."""
        if self.quiet and self._ready and self._passing is None and self._nothing_new():
            self._begin(HEARTBEAT, self.head)
            self._fanout.enqueue(self)
        self.quiet = True

    def _nothing_new(self) -> bool:
        return self._pending is not None and not self._pending

    # -- who is here

    def join(self, member: Subscription) -> bool:
        """Make `member`, whose cursor is not before `head`, a ready one.

        Returns:
            False if it has to wait until `head` has reached its cursor; it is woken then.
        """
        if self._passing is None and self._nothing_new():
            member.cursor = self.head = self._fanout.window.head  # nothing of ours lies between
        elif member.cursor != self.head:
            self._waiting[member] = None  # what is new has us in the run queue already
            return False
        self._ready[member] = None
        return True

    def leave(self, member: Subscription) -> None:
        """Take `member` out of the ready ones: it fell behind."""
        self._ready.pop(member, None)

    def forget(self, member: Subscription) -> None:
        """`member` is gone."""
        self._ready.pop(member, None)
        self._waiting.pop(member, None)

    # -- one turn of the fan-out

    def step(self) -> bool:
        """Serve the next few members.

        Returns:
            whether there is more to do.
        """
        passing = self._passing
        if passing is None:
            passing = self._begin_next()
            if passing is None:
                return self._more()
        chunk = self._chunk
        turn = self._turn
        self._turn = turn + STEP
        try:
            for member in passing[turn : turn + STEP]:
                write = member.write  # by itself: calling it as a method would look for one in the class first
                if not write(chunk):
                    member.fell_behind(self.head)
        except (Exception, asyncio.CancelledError) as error:  # a sink that may not raise did: the others go on
            logger.error("a stream's connection failed, and is cut", exc_info=error)
            self._turn = passing.index(member, turn) + 1
            member.cut()
        if self._turn < len(passing):
            return True
        self._fanout.delivered += len(chunk.frames) * len(passing)
        self._passing = None
        return self._more()

    def failed(self) -> None:
        """A step has raised: each ready member reads on for itself, so that what fails is cut and the others go on."""
        passing, self._passing = self._passing, None
        for member in passing[self._turn :] if passing is not None else ():
            member.cut()  # whether it has the pass's chunk is not known
        behind, self.head = self.head, self._fanout.window.head
        self._pending, self._pending_size = [], 0
        for member in list(self._ready):
            member.left_behind(behind)

    def _more(self) -> bool:
        self._wake_waiting()
        return self._pending is None or bool(self._pending)

    def _begin_next(self) -> list[Subscription] | None:
        fanout = self._fanout
        pending = self._pending
        if not self._ready:
            self._pending, self._pending_size = [], 0
            self.head = fanout.window.head  # each finds its own way here
            return None
        if pending is not None:
            if not pending:
                return None
            frames, through = pending, fanout.window.head
            self._pending, self._pending_size = [], 0
        elif self.head < fanout.window.floor:
            # The fan-out is so far behind that the window has moved on: each reads for itself from here.
            self._pending, self._pending_size = [], 0
            behind, self.head = self.head, fanout.window.head
            for member in list(self._ready):
                member.left_behind(behind)
            return None
        else:
            frames, through = self._due(fanout.window)
            if not frames:
                self.head = through
                return None
        self.quiet = False
        # A private channel's one reader shares its chunk with nobody: it need not be found again.
        alone = len(frames) == 1 and self.size == 1
        chunk = Chunk(frames, self.form) if alone else fanout.chunks.join(frames, self.form)
        return self._begin(chunk, through)

    def _due(self, window: Window) -> tuple[list[Frame], int]:
        """The next part of a pending list that outgrew the budget."""
        due = window.due(self.channels, self.head, upto=window.head, budget=self._fanout.options.write_budget)
        if due.through == window.head:
            self._pending, self._pending_size = [], 0
        return due.frames, due.through

    def _begin(self, chunk: Chunk, through: int) -> list[Subscription]:
        self._chunk = chunk
        self._turn = 0
        self.head = through
        self._passing = passing = list(self._ready)
        return passing

    def _wake_waiting(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for member in waiting:
                member.wake()
