"""A power that a log may have beside those of `Log`: to store something only if nothing happened in between.

What several processes have to agree on (who produces a run, whether it has ended) they agree on through this: each
reads the newest event of a channel, decides, and appends under the condition that it still is the newest. One of those
who try at once succeeds; the others look again. `newswire.testing.LedgerSuite` proves any implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from newswire.errors import LogError
from newswire.log.base import Entry
from newswire.wire.event import Event


class Guarded(NamedTuple):
    """A batch under a condition.

    Attributes:
        events: pairs of channel and event; see `Log.append`.
        channel: the channel that the condition is about. It need not be among those of `events`.
        newest: the offset of the newest event that was ever appended to `channel`; 0: there never was one.
    """

    events: Sequence[tuple[str, Event]]
    channel: str
    newest: int


# What became of a guarded batch; see `Ledger.append_guarded`.
Outcome: TypeAlias = int | LogError | None


@runtime_checkable
class Ledger(Protocol):
    """A log that can append under a condition, look at the end of a channel, and remove one."""

    async def append_guarded(self, batches: Sequence[Guarded]) -> list[Outcome]:
        """Store those of `batches` whose condition holds: each of them whole, in order, each judged after the one
        before it was stored.

        Returns:
            for each batch: the offset of its first event (the others have the next ones); None if its channel has
            moved on; or the error that kept it from being stored. In the last two cases nothing of it was.

        Raises:
            InvalidChannel, InvalidEvent, LimitExceeded: as `Log.append`; then nothing of any batch was stored.
        """
        ...

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """The newest kept event of each channel; None where there is none."""
        ...

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """Remove the events of each channel up to an offset, whatever retention says.

        A channel that has nothing left is forgotten: it is as if it had never been, and no reader is told of a loss.
        Of others, readers are told as they are of what retention removes.

        Returns:
            how many events were removed.
        """
        ...
