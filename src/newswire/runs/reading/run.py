"""A run, as an application holds it: read it, follow it, wait for its end, stop it.

A `Run` has the run's record as it was when the handle was made, asks the log for what may have changed since, and holds
nothing open. `Runs` makes them. Whoever produces a run has a `RunWriter`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from newswire.errors import RunNotFound, RunOver, TrimmedAway
from newswire.hub.subscription import Subscription
from newswire.log.position import Position
from newswire.runs.dialects import PARSERS
from newswire.runs.dialects.base import End
from newswire.runs.parts import Reasoning, Text, part_of
from newswire.runs.reading.reader import Readers, is_loss
from newswire.runs.store.record import Record, State, read_end
from newswire.wire.event import Event
from newswire.wire.reserved import END


class Run:
    """A handle of a run, which reads.

    Attributes:
        id: names it; its readers' URL has it.
        name: what it was started under.
        created: when, in seconds since the Unix epoch.
        meta: what `start` was given as `meta`.
        record: what the log knew of it when this handle was made.
        started: whether the call that returned this handle started the run, or took it over. False: it found the run.
        taken_over: whether its producer goes on for one that died.
    """

    def __init__(self, readers: Readers, record: Record, *, started: bool = False, taken_over: bool = False) -> None:
        self.id: str = record.id
        self.name: str = record.name
        self.created: float = record.created
        self.meta: Mapping[str, Any] = record.meta
        self.record = record
        self.started = started
        self.taken_over = taken_over
        self._readers = readers

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    async def state(self) -> State:
        """`waiting` for a producer, `running` or `ended`.

        Raises:
            RunNotFound: it is not kept any more.
        """
        return (await self._newest()).state

    async def end(self) -> End | None:
        """How it ended; None while it has not.

        Raises:
            RunNotFound: it is not kept any more.
        """
        return (await self._newest()).end

    async def _newest(self) -> Record:
        record = await self._readers.store.find(self.id)
        if record is None:
            raise RunNotFound(self.id)
        return record

    async def wait(self) -> End:
        """Wait for the end, for as long as it takes. Cancelling the wait changes nothing for the run.

        Raises:
            RunNotFound: it is not kept any more.
            RunOver: the hub was closed before the run ended.
            LogUnavailable: the log can't be read now.
        """
        record = await self._newest()
        if record.begun != self.record.begun:
            raise RunNotFound(self.id)  # another run of the same key has its place
        if record.end is not None:
            return record.end
        async for event in self._readers.read(record, Position(self._readers.hub.epoch, record.offset), fresh=True):
            if event.event == END:
                end = read_end(event.data)
                if is_loss(end):
                    raise RunNotFound(self.id)
                return end
        raise RunOver(f"run {self.id}: the hub was closed before the run ended")

    async def text(self) -> str:
        """The answer so far: all text, without reasoning, tools and the rest.

        Raises:
            RunNotFound: it is not kept any more, or a part of it is not.
        """
        return "".join([part.text async for part in self._parts() if isinstance(part, Text)])

    async def reasoning(self) -> str:
        """What the model thought so far; see `text`."""
        return "".join([part.text async for part in self._parts() if isinstance(part, Reasoning)])

    async def _parts(self) -> AsyncIterator[object]:
        raw = self.record.head.raw
        parser = PARSERS[raw]() if raw is not None and raw in PARSERS else None
        try:
            async for piece in self._readers.store.pieces(self.id, self.record.begun):
                if parser is None:
                    yield part_of(piece.event, piece.data)
                else:
                    for part in parser.stored(piece.event, piece.data):
                        yield part
        except TrimmedAway:
            raise RunNotFound(self.id, " (a part of it is not kept any more)") from None
        if (await self._newest()).begun != self.record.begun:  # what was read may be half of it, or nothing
            raise RunNotFound(self.id)

    def subscribe(self, after: Position | str | None = None) -> Subscription:
        """Iterate over the run's events, first those that are there, then live, up to and with `newswire.end`.

        If the run stops being kept before all of it was read, that end is `failed` with an error of type `EventsLost`.

        Args:
            after: the position to go on from; None: from the beginning.

        Raises:
            RunNotFound: at the first event: the run is not kept any more.
        """
        self._readers.store.stats.readers["resumed" if after else "new"] += 1
        return self._readers.read(self.record, after)

    async def first_event(self) -> Event | None:
        """Wait for the first event, which may be the end; None: the hub was closed before there was one."""
        events = aiter(self._readers.read(self.record, None, fresh=True))
        try:
            return await anext(events, None)
        finally:
            await events.aclose()

    async def stop(self) -> bool:
        """End it now, in whichever process it is produced: readers get `stopped`.

        Returns:
            False if it had ended already.

        Raises:
            RunNotFound: it is not kept any more.
            LogUnavailable, LogUncertain: the log can't store the end now; the run may go on.
        """
        while (record := await self._newest()).state != "ended":
            if await self._readers.store.end([record], End("stopped")):
                return True
        return False
