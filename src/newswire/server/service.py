"""What the routes share: the settings, the hub, who may do what, and the numbers.

One object a process, made by `create_app` and found at `request.app.state.service`. It answers no request itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from starlette.requests import Request

from newswire.delivery.bodies import Bodies
from newswire.delivery.drain import drain_of
from newswire.delivery.threads import in_thread
from newswire.hub.hub import Hub
from newswire.log.channels import Channels, check_channel, check_pattern, is_internal, name_or_pattern
from newswire.server.auth import Action, Authorizer
from newswire.server.problem import Problem, unavailable
from newswire.server.settings import Settings
from newswire.server.traffic import TrafficCounter, count_traffic
from newswire.serving.workers import Board, Numbers

logger = logging.getLogger("newswire.server")

_WRITE_SECONDS: Final = 1.0
_CHANNELS_SHOWN: Final = 200


class Service:
    """The inside of the server.

    Attributes:
        settings, hub, authorize, parameters: as given to `create_app`.
        numbers: this process's own.
        board: where the other workers' are.
        bodies: reads the requests' bodies.
        traffic: events by channel; None before the server has started.
        pages: the console's own streams in this process, by the channel or pattern that they show. No number of
            subscribers has them in it.
        started: when, in seconds since the Unix epoch.
    """

    def __init__(
        self, settings: Settings, hub: Hub, authorize: Authorizer, parameters: Sequence[str], board: Path | None
    ) -> None:
        self.settings = settings
        self.hub = hub
        self.authorize = authorize
        self.parameters = parameters
        self.numbers = Numbers()
        self.board = Board(board)
        self.bodies = Bodies(settings.body_timeout, settings.max_body)
        self.traffic: TrafficCounter | None = None
        self.pages: Counter[str] = Counter()
        self.started = time.time()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the hub, and close it in the end."""
        await self.hub.open()
        drain = drain_of(asyncio.get_running_loop())
        drain.mode, drain.grace = self.settings.drain, self.settings.grace
        stop = _Stop(self)
        drain.enter(stop)
        self.traffic = await count_traffic(self.hub)
        writer = asyncio.create_task(self._write_board(), name="newswire numbers") if self.board.shared else None
        try:
            yield
        finally:
            drain.leave(stop)
            if writer is not None:
                writer.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await writer
            await self.traffic.close()
            await self.hub.close()
            said = f"; {stop.streams:,} stream{'s' if stop.streams > 1 else ''} ended in order, clients come back"
            logger.info("stopped%s", said if stop.streams else "")

    async def _write_board(self) -> None:
        while True:
            try:
                own = Numbers()
                own.add(self.own(), alive=True)
                await in_thread(partial(self.board.write, own, self.subscribers()))
            except Exception:  # the outermost frame of its task: numbers go on, and somebody hears of it
                logger.exception("this worker's numbers can't be written")
            await asyncio.sleep(_WRITE_SECONDS)

    # -- checks that routes share

    async def allow(self, request: Request, action: Action, *channels: str) -> None:
        """Check the channels' names, then ask whether the request may do that with them.

        Raises:
            InvalidChannel, Problem: it may not.
        """
        self.check(action, *channels)
        await self.authorize(request, action, channels)

    def check(self, action: Action, *channels: str) -> None:
        """Check the channels' names.

        Raises:
            InvalidChannel, Problem: one can't be published to, or asked for.
        """
        limit = self.settings.max_channel_bytes
        for channel in channels:
            if action == "publish":
                check_channel(channel)
            else:
                check_pattern(channel)
            if is_internal(channel):
                detail = (
                    f"channel {channel[:100]!r} begins with '$', as those do that are not for clients: take another"
                )
                raise Problem(400, "invalid_channel", detail, field="channel")
            if len(channel.encode()) > limit:
                detail = f"a channel's name has at most {limit} bytes here; this one has {len(channel.encode())}"
                raise Problem(400, "invalid_channel", detail, field="channel", limit=limit)

    def check_room(self) -> None:
        """Check that there is room for one more stream.

        Raises:
            Problem: this process has as many as it may have.
        """
        limit = self.settings.max_streams
        gauges = self.own().gauges
        if gauges["subscribers"] + gauges["pages"] >= limit:
            self.numbers.counters["refused"] += 1
            raise unavailable(f"this server has its {limit:,} streams open: try again later", "too_many_streams")

    # -- numbers

    def own(self) -> Numbers:
        """This process's numbers, those of its hub among them."""
        stats = self.hub.stats()
        counting, counted = (0, 0) if self.traffic is None else (self.traffic.subscribers, self.traffic.delivered)
        numbers = self.numbers
        hub = {"delivered": stats.delivered - counted, "gaps": stats.gaps, "pages_read": stats.pages_read}
        numbers.counters.update({name: value - numbers.counters[name] for name, value in hub.items()})
        numbers.gauges.clear()
        numbers.gauges.update(
            subscribers=stats.subscribers - counting - self.pages.total(),
            pages=self.pages.total(),
            stalled=stats.stalled,
            window_events=stats.window_events,
            window_bytes=stats.window_bytes,
            workers=1,
        )
        return numbers

    def all(self) -> Numbers:
        """The numbers of all workers."""
        together = Numbers()
        together.add(self.own(), alive=True)
        for numbers, _, alive in self.board.others():
            together.add(numbers, alive=alive)
        return together

    def subscribers(self) -> dict[str, int]:
        """Subscribers in this process: of the channels that had events lately, and of what is subscribed to.

        Without the server's own (its counter, the console's pages) and without the channels that begin with `$`.
        """
        counting = 0 if self.traffic is None else self.traffic.subscribers
        own = Counter(self.pages)
        own[">"] += counting
        shown = [(Channels([name_or_pattern(channel)]), count) for channel, count in own.items() if count]
        named = {name: count - own[name] for name, count in self.hub.channels(_CHANNELS_SHOWN).items()}
        busiest: Sequence[str] = list(self.traffic.busiest(_CHANNELS_SHOWN)) if self.traffic is not None else ()
        for name in busiest:
            named[name] = self.hub.subscribers(name) - sum(count for channels, count in shown if name in channels)
        return {name: count for name, count in named.items() if count > 0 and not is_internal(name)}


class _Stop:
    """Notes how many streams were open when the server began to stop."""

    finite = False

    def __init__(self, service: Service) -> None:
        self.streams = 0
        self._service = service

    def stop(self) -> None:
        """The server is stopping."""
        self.streams = self._service.own().gauges["subscribers"]

    def cut(self) -> None:
        """There is nothing to drop."""


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service
