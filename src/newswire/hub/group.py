"""A group: all subscribers of the same channels in the same form, and what they are due together.

Members that have caught up share one cursor, the group's `head`, and get the same chunk in one tight loop: a **round**.
A member that can't take more leaves the ready ones with a cursor of its own, and comes back when it has caught up. The
scheduler calls `step`; the runtime feeds `add`. Nothing here touches the log or a clock, and a member is known by its
protocol only. Who owns a cursor when: see `newswire.hub.subscription`.

Two rules keep every event exactly once:

* a round serves those who were ready when it began; whoever joins during it joins at the round's end position;
* a member may join only at `head`; one that is further already (it read on elsewhere) waits for `head` to reach it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from newswire.hub.frames import HEARTBEAT, Chunk, Chunks, Frame, FrameForm
from newswire.hub.history import History
from newswire.hub.scheduler import Scheduler
from newswire.log.channels import Channels

logger: logging.Logger = logging.getLogger("newswire.hub")

# So many writes between two looks at the clock: some 0.4 ms.
STEP: Final = 64


class GroupMember(Protocol):
    """A subscription, as its group sees it.

    Attributes:
        cursor: its offset; the group's head counts while it is ready.
        write: gives it a chunk; see `Sink.write`.
    """

    cursor: int
    write: Callable[[Chunk], bool]

    def fell_behind(self, cursor: int) -> None:
        """It took the round's chunk, up to `cursor`, and can take no more now."""
        ...

    def read_on(self, cursor: int) -> None:
        """The group can't serve it any more: it reads on for itself, from `cursor`."""
        ...

    def wake(self) -> None:
        """What it waited for is there."""
        ...

    def failed(self) -> None:
        """What serves it has raised: its connection is dropped."""
        ...


class Group:
    """The subscribers of one set of channels in one form.

    Attributes:
        channels, form, heartbeat, wire: what its members have in common.
        key: all of that, as the runtime knows it by; it sets this.
        head: the offset up to which the ready members have everything, or will once the present round has ended.
        size: how many members there are, ready or not.
        queued: it waits for a turn.
    """

    __slots__ = (
        "_chunk",
        "_chunks",
        "_history",
        "_pending",
        "_pending_size",
        "_quiet",
        "_ready",
        "_round",
        "_scheduler",
        "_turn",
        "_waiting",
        "channels",
        "form",
        "head",
        "beat",
        "heartbeat",
        "key",
        "queued",
        "size",
        "wire",
    )

    def __init__(
        self,
        channels: Channels,
        form: FrameForm,
        heartbeat: float | None,
        wire: bool = True,
        *,
        history: History,
        scheduler: Scheduler,
        chunks: Chunks,
    ) -> None:
        self.channels: Channels = channels
        self.form: FrameForm = form
        self.heartbeat: float | None = heartbeat
        self.wire: bool = wire
        self.key: tuple[object, ...] = ()
        self.head: int = history.window.head
        self.size: int = 0
        self.queued: bool = False
        self._history = history
        self._scheduler = scheduler
        self._chunks = chunks
        self._quiet = False  # nothing was written since the last `send_heartbeat`
        self._ready: dict[GroupMember, None] = {}
        self._waiting: list[GroupMember] = []  # for `head` to reach their cursors
        # What is new since `head`; None once it outgrew the write budget: then the window knows.
        self._pending: list[Frame] | None = []
        self._pending_size = 0
        # The present round: its members, how many have had their turn, and what they get.
        self._round: list[GroupMember] | None = None
        self._turn = 0
        self._chunk: Chunk = HEARTBEAT
        self.beat: Chunk = HEARTBEAT

    # -- what is new

    def add(self, frame: Frame) -> None:
        """Take note of a new event of these channels."""
        pending = self._pending
        if pending is not None:
            pending.append(frame)
            self._pending_size += frame.size
            if self._pending_size > self._history.budget:
                self._pending = None
        if not self.queued:
            self._scheduler.enqueue(self)

    def lose_track(self) -> None:
        """The window began again, or got something that was not added here: look there."""
        self._pending = None
        self._scheduler.enqueue(self)

    def send_heartbeat(self) -> float | None:
        """Send a heartbeat to the ready members if nothing was sent since the last call.

        Returns:
            the seconds after which to call again: a silent stream gets one after half of the interval at least.
        """
        if self._quiet and self._ready and self._round is None and self._nothing_new():
            self._begin(self.beat, self.head)
            self._scheduler.enqueue(self)
        self._quiet = True
        return None if self.heartbeat is None else self.heartbeat / 2

    def _nothing_new(self) -> bool:
        return self._pending is not None and not self._pending

    # -- who is here

    def join(self, member: GroupMember) -> bool:
        """Make `member`, whose cursor is not before `head`, a ready one.

        Returns:
            False if it has to wait until `head` has reached its cursor: then it is woken.
        """
        if self._round is None and self._nothing_new():
            member.cursor = self.head = self._history.window.head  # nothing of ours lies between
        elif member.cursor != self.head:
            self._waiting.append(member)  # what is new has us in the run queue already
            return False
        self._ready[member] = None
        return True

    def leave(self, member: GroupMember) -> None:
        """`member` is not ready any more, or gone."""
        self._ready.pop(member, None)
        if member in self._waiting:
            self._waiting.remove(member)

    def close(self) -> None:
        """The last member has left."""

    def disperse(self) -> None:
        """Let each ready member read on for itself: the log is another one now."""
        behind = served = self.head
        missed: set[GroupMember] = set()
        if self._round is not None and self._chunk.frames:
            missed = set(self._round[self._turn :])
            behind = self._chunk.frames[0].offset - 1
        self._start_over()
        self._waiting = []
        for member in list(self._ready):
            member.read_on(behind if member in missed else served)

    def _start_over(self) -> None:
        self._round = None
        self._pending, self._pending_size = [], 0
        self.head = self._history.window.head

    # -- one turn

    def step(self) -> bool:
        """Serve the next few members.

        Returns:
            whether there is more to do.
        """
        members = self._round
        if members is None:
            if self.size == 1 and self._pending and self._ready:
                return self._serve_one(self._pending)
            members = self._begin_next()
            if members is None:
                return self._more()
        chunk = self._chunk
        turn = self._turn
        self._turn = turn + STEP
        try:
            for member in members[turn : turn + STEP]:
                write = member.write  # by itself: calling it as a method would look for one in the class first
                if not write(chunk):
                    member.fell_behind(self.head)
        except (Exception, asyncio.CancelledError) as error:  # a sink that may not raise did: the others go on
            logger.error("a stream's connection failed, and is cut", exc_info=error)
            self._turn = members.index(member, turn) + 1
            member.failed()
        if self._turn < len(members):
            return True
        counts = self._chunks.counts
        if chunk.frames:
            counts.delivered += len(chunk.frames) * len(members)
        else:
            counts.heartbeats += len(members)
        if self.wire:
            counts.stream_bytes += len(chunk.raw) * len(members)
        self._round = None
        return self._more()

    def _serve_one(self, pending: list[Frame]) -> bool:
        """The round of a private channel, whose one member shares its chunk with no other."""
        self._pending, self._pending_size = [], 0
        self._quiet = False
        self.head = head = self._history.window.head
        chunk = Chunk(pending, self.form)
        (member,) = self._ready
        write = member.write
        try:
            if not write(chunk):
                member.fell_behind(head)
        except (Exception, asyncio.CancelledError) as error:  # as in `step`
            logger.error("a stream's connection failed, and is cut", exc_info=error)
            member.failed()
        counts = self._chunks.counts
        counts.delivered += len(pending)
        if self.wire:
            counts.stream_bytes += len(chunk.raw)
        return bool(self._waiting) and self._more()

    # -- rounds that many groups of one member have together; see `newswire.hub.shared_rounds`

    def begin_shared(self, chunk: Chunk, head: int) -> GroupMember | None:
        """Begin a round with a chunk that ends at `head`, in which somebody else serves the one member.

        Returns:
            the member; None, and nothing is changed, if there are more, or this one waits for something.
        """
        ready = self._ready
        if self.size != 1 or self.queued or not ready:
            return None
        (member,) = ready
        self.queued = True
        self._quiet = False
        self.head = head
        self._chunk = chunk
        self._round, self._turn = [member], 0
        return member

    def take_back(self, frame: Frame, member: GroupMember) -> None:
        """The shared round that was to bring this event to this member is not to be."""
        self.queued = False
        if len(self._ready) == 1 and member in self._ready:  # else someone is ready who is to have it, or has it
            self._round = None
            self.head = frame.offset - 1
            if self._pending is not None:
                self._pending.insert(0, frame)
                self._pending_size += frame.size
        self._scheduler.enqueue(self)

    def served(self) -> None:
        """The one member has had its turn."""
        self._round = None
        self.queued = False
        if self._more():
            self._scheduler.enqueue(self)

    def failed(self) -> None:
        """A step has raised: each ready member reads on for itself, so that what fails is cut and the others go on."""
        behind, members = self.head, self._round
        for member in members[self._turn :] if members is not None else ():
            member.failed()  # whether it has the round's chunk is not known
        self._start_over()
        for member in list(self._ready):
            member.read_on(behind)

    def _more(self) -> bool:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for member in waiting:
                member.wake()
        return self._pending is None or bool(self._pending)

    def _begin_next(self) -> list[GroupMember] | None:
        """Begin the next round. None: there is none."""
        window = self._history.window
        pending = self._pending
        if not self._ready:
            self._start_over()  # each finds its own way here
            return None
        if pending is not None:
            if not pending:
                return None
            frames, through = pending, window.head
            self._pending, self._pending_size = [], 0
        elif self.head < window.floor:
            # The rounds are so far behind that the window has moved on.
            behind = self.head
            self._start_over()
            for member in list(self._ready):
                member.read_on(behind)
            return None
        else:
            frames, through, *_ = window.due(self.channels, self.head, upto=window.head, budget=self._history.budget)
            if through == window.head:
                self._pending, self._pending_size = [], 0
            if not frames:
                self.head = through
                return None
        self._quiet = False
        return self._begin(self._chunks.join(frames, self.form), through)

    def _begin(self, chunk: Chunk, through: int) -> list[GroupMember]:
        self._chunk = chunk
        self._turn = 0
        self.head = through
        self._round = members = list(self._ready)
        return members
