"""Shared rounds: one event for many groups of one member each.

Subscribers that each have a channel of their own beside one that all share are alone in their groups. An event for all
readies the groups first, and writes then: one write follows the other, with nothing between them, as in the round of a
group of many. After a system call the processor's caches hold little of Python's, and readying a group touches much of
it: done between the writes, it costs each delivery half as much again.

A group in a shared round has a round as any other, and waits for its turn. If a second event for all comes before any
had its turn, the round is dissolved, and both go out together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from newswire.hub.frames import Chunks, Frame, FrameForm
from newswire.hub.group import STEP, Group, GroupMember
from newswire.hub.scheduler import Scheduler

logger: logging.Logger = logging.getLogger("newswire.hub")

# For fewer groups it is not worth it.
MANY: Final = 16


class SharedRounds:
    """The shared rounds of a hub that have not ended.

    Args:
        scheduler: gives them their turns.
        chunks: joins what is written.
    """

    def __init__(self, scheduler: Scheduler, chunks: Chunks) -> None:
        self._scheduler = scheduler
        self._chunks = chunks
        self._rounds: dict[_SharedRound, None] = {}

    def add(self, frame: Frame, groups: Collection[Group]) -> None:
        """Let all of these groups take note of a new event."""
        if self._rounds and self._dissolve():
            for group in groups:
                group.add(frame)
            return
        found: dict[FrameForm, _SharedRound] = {}
        for group in groups:
            round = found.get(group.form)
            if round is None:
                round = found[group.form] = _SharedRound(frame, group.form, self._chunks, self._rounds)
                self._scheduler.enqueue(round)
            if not round.take(group):
                group.add(frame)

    def _dissolve(self) -> bool:
        """End the rounds in which none had its turn: their event goes out with what comes now.

        Returns:
            False if there was none.
        """
        waiting = [round for round in self._rounds if not round.begun]
        for round in waiting:
            round.dissolve()
        return bool(waiting)

    def stop(self) -> None:
        """End them all: the log is another one now."""
        for round in list(self._rounds):
            round.stop()


class _SharedRound:
    """One event for many groups of one member, each of which has all events before it.

    A group in it has a round like any other, and waits for its turn; here all of them have it together.

    Attributes:
        queued: it waits for a turn.
    """

    __slots__ = ("_all", "_chunk", "_chunks", "_frame", "_groups", "_head", "_members", "_turn", "queued")

    def __init__(self, frame: Frame, form: FrameForm, chunks: Chunks, all: dict[_SharedRound, None]) -> None:
        self.queued: bool = False
        self._frame = frame
        self._head = frame.offset
        self._chunk = chunks.join([frame], form)
        self._chunks = chunks
        self._all = all
        all[self] = None
        self._groups: list[Group] = []
        self._members: list[GroupMember] = []
        self._turn = 0

    @property
    def begun(self) -> bool:
        """Some have had their turns."""
        return self._turn > 0

    def take(self, group: Group) -> bool:
        """Serve this group too. Returns False if it can't be."""
        member = group.begin_shared(self._chunk, self._head)
        if member is None:
            return False
        self._groups.append(group)
        self._members.append(member)
        return True

    def step(self) -> bool:
        """Serve the next few members. Returns whether there is more to do."""
        turn, chunk, head = self._turn, self._chunk, self._head
        end = turn + STEP
        try:
            for member in self._members[turn:end]:
                write = member.write
                if not write(chunk):
                    member.fell_behind(head)
        except (Exception, asyncio.CancelledError) as error:  # as in `Group.step`
            logger.error("a stream's connection failed, and is cut", exc_info=error)
            end = self._members.index(member, turn) + 1
            member.failed()
        groups = self._groups[turn:end]
        counts = self._chunks.counts
        counts.delivered += len(groups)
        written = 0
        for group in groups:
            written += group.wire
            group.served()
        if written:  # else nothing is encoded
            counts.stream_bytes += written * len(chunk.raw)
        self._turn = end
        if end < len(self._members):
            return True
        self._all.pop(self, None)
        return False

    def dissolve(self) -> None:
        """Let each group have the event among those that wait, as if it had not been in this round."""
        members = self._members
        for group, member in zip(self._let_go(), members, strict=True):
            group.take_back(self._frame, member)

    def stop(self) -> None:
        """Serve no more: the groups do that themselves."""
        for group in self._let_go():
            group.queued = False

    def failed(self) -> None:
        """A step has raised."""
        for group in self._let_go():
            group.queued = False
            group.failed()

    def _let_go(self) -> list[Group]:
        groups, self._groups, self._members = self._groups[self._turn :], [], []
        self._all.pop(self, None)
        return groups
