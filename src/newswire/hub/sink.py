"""Where `hub` and `delivery` meet: the hub knows what a subscriber should get next, a sink how it gets there.

A sink takes bytes if it can, says when it can again, and ends. It is called from the hub's tightest loop, so none of
its methods may block, await or raise.
"""

from __future__ import annotations

from typing import Protocol

from newswire.hub.frames import Chunk


class Sink(Protocol):
    """One connection, as the hub sees it."""

    def write(self, chunk: Chunk) -> bool:
        """Take `chunk`, all of it; what the connection can't hold yet, the sink holds.

        Returns:
            True if more may follow at once. False if not: then the sink calls `subscription.resume()` when all that
            it took is on its way, and is given nothing until then.
        """
        ...

    def end(self, last: Chunk | None) -> None:
        """Finish the stream in order: after what was taken, `last`, then the end.

        Called once, also while the sink can take no more. When all is on its way, or the connection is lost, the
        sink calls `subscription.ended()`; until then it may still be cut.
        """
        ...

    def cut(self) -> None:
        """Drop the connection now: its peer takes nothing. Nothing more is called on this sink."""
        ...
