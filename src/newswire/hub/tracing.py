"""What a tracer has to do for a hub: one span a stream, one a publish, never one a delivery.

A hub has no tracer by default, and then nothing of this runs. `newswire.otel.instrument` gives it one.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from newswire.log.channels import Channels
from newswire.log.position import Position
from newswire.wire.event import Event


class TracedStream(Protocol):
    """A subscription, as its tracer sees it.

    Attributes:
        channels: what it subscribes to.
        cursor: the offset after which its events follow.
        resumed: where it began; see `newswire.hub.stats`.
    """

    channels: Channels
    cursor: int
    resumed: str

    @property
    def runtime(self) -> Any:
        """The inside of its hub."""
        ...


class HubTracer(Protocol):
    """A tracer of one hub. Its calls may not raise or block."""

    def request(self, scope: Mapping[str, Any]) -> AbstractContextManager[object]:
        """The trace of a request, for what is done in the block: an ASGI scope's `traceparent`, or the present span."""
        ...

    def publish(
        self, batch: Sequence[tuple[str, Event]], stored: Coroutine[Any, Any, list[Position]]
    ) -> Coroutine[Any, Any, list[Position]]:
        """Await `stored`, which stores the batch. Returns what it returns, and raises what it raises."""
        ...

    def began(self, stream: TracedStream) -> None:
        """A stream to a connection has begun."""
        ...

    def ended(self, stream: TracedStream, why: str) -> None:
        """It has ended; see `newswire.hub.stats` for how."""
        ...
