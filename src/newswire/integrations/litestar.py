"""Litestar's channels on a hub: `ChannelsPlugin(HubChannels(hub), arbitrary_channels_allowed=True)`.

The plugin's publishers, subscribers and WebSocket handlers stay as they are. What they publish is stored in the hub's
log, so every process gets it, and history is what the log keeps. `HubChannels.handler` streams the same channels as
Server-Sent Events, where a client that comes back gets what it missed. Routes of your own return
`newswire.EventSourceResponse`; that needs nothing of this. `problems` answers what newswire raises.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, Final

try:
    from litestar import Request, Response, get
    from litestar.channels.backends.base import ChannelsBackend
    from litestar.handlers import HTTPRouteHandler
except ImportError as _error:
    raise ImportError("newswire.integrations.litestar needs Litestar: pip install litestar") from _error

from newswire.delivery.problem import CONTENT_TYPE, Problem, as_problem
from newswire.delivery.request import last_event_id
from newswire.delivery.response import EventSourceResponse
from newswire.errors import NewswireError
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.log.channels import Channels, Pattern
from newswire.validate import check_kind
from newswire.wire.reserved import GAP

__all__ = ["HubChannels", "problems"]

logger: logging.Logger = logging.getLogger("newswire.integrations.litestar")

_PAGE: Final = 1000
_OUTAGE_SECONDS: Final = 60.0  # how long a publish waits for a log that is away


def _answer(request: Any, error: Exception) -> Response[bytes]:
    problem = as_problem(error)
    headers = {name: value for name, value in problem.headers.items() if name != "content-type"}
    return Response(problem.body(), status_code=problem.status, headers=headers, media_type=CONTENT_TYPE)


problems: Final[dict[Any, Callable[[Any, Any], Response[Any]]]] = {Problem: _answer, NewswireError: _answer}
"""Answers what newswire raises in a route with its problem: `Litestar([...], exception_handlers=problems)`.

A bad channel name is a 400 then, a refusal of newswire's auth a 401 or 403, and a log that is away a 503, each with all
members of the problem. Without it Litestar makes JSON of its own, which has them below `extra`.
"""


class HubChannels(ChannelsBackend):
    """A `ChannelsBackend` of Litestar's on a hub.

    Args:
        hub: opened when the application starts, and closed when it stops.
    """

    def __init__(self, hub: Hub[Any]) -> None:
        check_kind("hub", hub, Hub)
        self._hub = hub
        self._channels: set[str] = set()
        self._subscription: Subscription[Any] | None = None

    async def on_startup(self) -> None:
        """Called by the plugin: what is published from here on arrives.

        Raises:
            LogUnavailable, LogCorrupt: the log can't be opened.
        """
        await self._hub.open()
        self._subscription = self._hub.subscribe(Pattern(">"), envelope=True)
        await self._subscription.open()

    async def on_shutdown(self) -> None:
        """Called by the plugin."""
        if self._subscription is not None:
            self._subscription.close()
        await self._hub.close()

    async def publish(self, data: bytes, channels: Iterable[str]) -> None:
        """Store an event in each channel, all of them or none. A log that is away is tried for a minute.

        Args:
            data: UTF-8.
            channels: names.

        Raises:
            NewswireError: it can't be stored. `ChannelsPlugin.wait_published` raises that; `publish` does not
                wait, so there it is logged.
        """
        batch = [(channel, data) for channel in channels]
        try:
            await self._hub.publish_many(batch, wait=_OUTAGE_SECONDS)
        except NewswireError as error:
            if not _in_worker():
                raise
            logger.error("an event for %s can't be published: %s", ", ".join(name for name, _ in batch)[:200], error)

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Take events of these channels too."""
        self._channels.update(channels)

    async def unsubscribe(self, channels: Iterable[str]) -> None:
        """Take them no more."""
        self._channels.difference_update(channels)

    async def stream_events(self) -> AsyncGenerator[tuple[str, bytes], None]:
        """Iterate over the events of these channels, as they come: pairs of a channel and its data as UTF-8.

        Where events are missing, a line in the log says so.

        Raises:
            RuntimeError: the plugin has not started the backend.
        """
        if self._subscription is None:
            raise RuntimeError("the backend is not started: add the ChannelsPlugin to the application's plugins")
        async for event in self._subscription:
            if event.event == GAP:  # the plugin has no word for it
                logger.warning("events are missing: the plugin's subscribers get none of them: %s", event.data[:200])
            elif event.channel in self._channels:
                yield event.channel, event.data.encode()

    async def get_history(self, channel: str, limit: int | None = None) -> list[bytes]:
        """What the log keeps of a channel, oldest first: the data of its newest `limit` events; None: of all.

        The whole channel is read for it.

        Raises:
            InvalidChannel: it is no channel's name.
            LogUnavailable: the log can't be read now.
        """
        await self._hub.runtime()
        log, after = self._hub.log, 0
        span = await log.span()
        found: deque[bytes] = deque(maxlen=limit)
        while after < span.latest:
            page = await log.read(Channels([channel]), after, _PAGE)
            found.extend(entry.data.encode() for entry in page.entries)
            if page.through <= after:
                break
            after = page.through
        return list(found)

    def handler(
        self, path: str = "/events/{channel:str}", *, options: StreamOptions | None = None, **more: Any
    ) -> HTTPRouteHandler:
        """Make a route handler that streams the channel which its path names.

        Args:
            path: with `{channel:str}` in it.
            options: see `StreamOptions`.
            more: more arguments of `litestar.get`: `guards`, say, which decide who may read what.

        Raises:
            ValueError: there is no `{channel:str}` in `path`.
        """
        check_kind("path", path, str)
        if options is not None:
            check_kind("options", options, StreamOptions)
        if "{channel:str}" not in path:
            raise ValueError(f"the path names the channel: '/events/{{channel:str}}', say, not {path!r}")
        hub = self._hub

        @get(path, **more)
        async def stream(request: Request[Any, Any, Any]) -> EventSourceResponse:
            channel = request.path_params["channel"]
            return EventSourceResponse(hub.subscribe(channel, after=last_event_id(request)), options=options)

        return stream


def _in_worker() -> bool:
    """Whether the plugin's own task publishes: an exception would end it, and with it all publishing."""
    task = asyncio.current_task()
    return task is not None and getattr(task.get_coro(), "__name__", "") == "_pub_worker"
