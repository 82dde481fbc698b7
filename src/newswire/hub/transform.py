"""What may stand between a subscription and its sink: it decides which bytes one reader gets.

A dialect of a run is one: same cursor, same channel, same connection, other words. The hub calls it; it never calls
back, but for `end`. A subscription without a transform sends the frames as they are.
"""

from __future__ import annotations

from collections.abc import Callable

from newswire.hub.frames import Chunk, Frame, FrameForm
from newswire.log.position import Position

__all__ = ["Transform", "Chunk", "Frame", "FrameForm"]


class Transform:
    """Changes what one reader gets: `hub.subscribe(..., transform=...)`. Subclasses override what they
    change; this one changes nothing.

    The hub calls, in this order: `open` and `begin` once, `write` for each chunk, `goodbye` if the server ends the
    stream, `ended` once. Only `open` may wait or raise.
    """

    __slots__ = ()

    async def open(self, position: Position) -> Position:
        """Prepare: the subscription has its place in the log, and nothing is sent yet.

        Args:
            position: where it would start.

        Returns:
            the position to start after, which may be a later one.
        """
        return position

    def begin(self, position: Position, retry: int | None, end: Callable[[Chunk], None]) -> bytes | None:
        """Begin the stream.

        Args:
            position: where it starts.
            retry: the stream's reconnection time in milliseconds, if it sets one.
            end: ends the stream in order, with a last chunk; for an end that comes from outside.

        Returns:
            what the stream starts with; None for the hub's own opening.
        """
        return None

    def write(self, chunk: Chunk) -> tuple[Chunk | None, bool]:
        """Transform a chunk that has frames. A gap event is a frame too, alone in its chunk.

        Returns:
            what the sink gets, None for nothing; and whether the stream is over behind it.
        """
        return chunk, False

    def restates(self, frame: Frame) -> bool:
        """Whether the oldest kept frame says all that was removed before it, so that nothing is lost."""
        return False

    def goodbye(self, wait: int) -> bytes | None:
        """Ask the client to come back.

        Args:
            wait: how long the client should wait, in milliseconds.

        Returns:
            the last bytes of the stream; None for the hub's own goodbye.
        """
        return None

    def ended(self) -> None:
        """The stream has ended, in whatever way."""
