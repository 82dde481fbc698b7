"""What the routes of `newswire serve` share: the hub, the authorizer, the checks, the stats.

One object a process, made by `create_app` and found at `request.app.state.service`. It answers no request itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

from starlette.requests import Request
from starlette.types import Scope

from newswire.counted import counted
from newswire.delivery.bodies import Bodies
from newswire.delivery.drain import drain_of
from newswire.delivery.problem import Problem
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.log.channels import Channels, check_channel, check_pattern, is_internal, name_or_pattern
from newswire.log.histogram import Histogram
from newswire.server.activity import ActivityCounter
from newswire.server.auth import Access, Action, Auth, Authorizer, allow_all
from newswire.server.auth.credentials import TICKET
from newswire.server.auth.streams import OpenStreams, address_of
from newswire.server.metrics import FAMILIES, PUBLISH_BOUNDS
from newswire.server.policy import Rates, check_room, for_channels, patient, times
from newswire.server.settings import Settings
from newswire.serving.metrics import Family
from newswire.serving.origins import Grants
from newswire.serving.served_app import ServedApp
from newswire.serving.settings import ServerSettings
from newswire.serving.stats import ServerStats

_CHANNELS_SHOWN: Final = 200
_CHANNELS_REMEMBERED: Final = 1000


class Service(ServedApp):
    """The inside of the server.

    Attributes:
        authorize, parameters: as given to `create_app`.
        stream_parameters: those of streams, which take tickets too.
        auth: the authorizer, if it is newswire's own.
        streams_open: the open streams that a credential or a limit is about.
        bodies: reads the requests' bodies.
        rates: how fast publishers may be; None: as fast as they can.
        presence_rates: how fast a member's state may change.
        publish_seconds: how long publish requests took.
        activity: events by channel, for the console.
        pages: the console's own streams in this process, by the channel or pattern that they show. No number of
            subscribers has them in it.
        counting: open streams that are none of the hub's: of the number of a channel's members, and of edges.
        answers: what answers the questions of other workers, and of this one, by their kind.
    """

    settings: Settings
    families: ClassVar[tuple[Family, ...]] = FAMILIES
    grants: Grants = Grants(
        methods="GET, HEAD, POST, DELETE",
        headers="Authorization, Cache-Control, Content-Type, Idempotency-Key, Last-Event-ID, Prefer",
        exposed="Allow, Date, Retry-After, WWW-Authenticate",  # clients wait as long as Retry-After says
    )

    def __init__(
        self, settings: Settings, hub: Hub, authorize: Authorizer, parameters: Sequence[str], stats_folder: Path | None
    ) -> None:
        super().__init__(settings, hub, stats_folder, settings.drain)
        self.authorize = authorize
        self.auth: Auth | None = authorize if isinstance(authorize, Auth) else None
        if self.auth is None:
            self.streams_open: OpenStreams = OpenStreams()
        else:
            self.streams_open = self.auth.streams
            self.grants = replace(self.grants, credentials=True)
        self.streams_open.per_subject = settings.max_streams_per_subject
        self.streams_open.per_address = settings.max_streams_per_address
        self.parameters: tuple[str, ...] = tuple(parameters)
        self.stream_parameters: tuple[str, ...] = self.parameters if self.auth is None else (*parameters, TICKET)
        self.bodies: Bodies = Bodies(settings.body_timeout, settings.max_body)
        self.publish_seconds: Histogram = Histogram(PUBLISH_BOUNDS)
        self.stats.histograms["publish_seconds"] = self.publish_seconds
        self.rates = None if settings.publish_rate is None else Rates(settings.publish_rate)
        self.presence_rates: Rates = Rates(settings.state_rate)
        self.activity: ActivityCounter = ActivityCounter(hub)
        self.pages: Counter[str] = Counter()
        self.counting: int = 0
        self.answers: dict[str, Callable[[Service, dict[str, Any]], Awaitable[Any]]] = {}
        self._publishable: set[str] = set()  # channels whose names were checked

    def change(self, settings: ServerSettings) -> None:
        """See `ServedApp.change`."""
        assert isinstance(settings, Settings)
        if self.auth is not None:
            tokens, keys = settings.tokens(), settings.keys()  # what fails here has changed nothing
            self.auth.change(tokens=tokens, keys=keys, anonymous=settings.anonymous, secret=settings.jwt_secret)
        self.streams_open.per_subject = settings.max_streams_per_subject
        self.streams_open.per_address = settings.max_streams_per_address
        if (settings.body_timeout, settings.max_body) != (self.settings.body_timeout, self.settings.max_body):
            self.bodies = Bodies(settings.body_timeout, settings.max_body)
        if settings.publish_rate != self.settings.publish_rate:
            self.rates = None if settings.publish_rate is None else Rates(settings.publish_rate)
        drain_of(asyncio.get_running_loop()).mode = settings.drain
        super().change(settings)

    async def open(self) -> None:
        """Open the hub, and begin to count its events."""
        await self.hub.open()
        if self.auth is not None:
            await self.auth.open()
        await self.activity.start()
        self.loop_lag.start()

    async def close(self, stopping: float) -> None:
        """See `ServedApp.close`."""
        self.loop_lag.stop()
        await self.activity.close()

    async def check_scraper(self, request: Request) -> None:
        """Let in what may observe; see `ServedApp.check_scraper`."""
        if self.authorize is allow_all:
            await super().check_scraper(request)
        else:
            await self.authorize(request, "observe", ())

    async def answer(self, question: dict[str, Any]) -> Any:
        """See `ServedApp.answer`."""
        return await self.answers[question["ask"]](self, question)

    def publisher(self, scope: Scope, access: Access | None) -> str | None:
        """What a publish request counts for: its user, or else its address. None: there is no limit.

        Raises:
            Problem: it has published too fast.
        """
        if self.rates is None:
            return None
        if access is not None and access.subject is not None:
            name = f"subject {access.subject}"
        else:
            name = f"address {address_of(scope.get('client'))}"
        self.rates.check(name)
        return name

    def published(self, events: int, seconds: float) -> None:
        """A publish request has stored so many events in so many seconds."""
        self.stats.counters["published"] += events
        self.publish_seconds.observe(seconds)

    # -- checks that routes share

    async def allow(self, request: Request, action: Action, *channels: str) -> Access | None:
        """Check the channels' names, then ask whether the request may do that with them.

        Returns:
            whose the request is, if the authorizer says so.

        Raises:
            InvalidChannel, Problem: it may not.
        """
        self.check(action, *channels)
        return await self.authorize(request, action, channels)

    def follow(self, subscription: Subscription, access: Access | None, request: Request) -> None:
        """Count a stream that is about to begin, and end it when its credential ends.

        Raises:
            Problem: its credential was revoked meanwhile, or its client has as many streams as it may have.
        """
        subscription.client = address_of(request.scope.get("client"))
        subscription.subject = None if access is None else access.subject
        try:
            if self.auth is not None and access is not None:
                self.auth.follow(subscription, access, request)
            else:
                address = self.streams_open.address_of(request.scope.get("client"))
                self.streams_open.follow(subscription, access, address)
        except Problem:
            self.stats.counters["refused"] += 1
            raise

    def check(self, action: Action, *channels: str) -> None:
        """Check the channels' names.

        Raises:
            InvalidChannel, Problem: one can't be published to, or asked for.
        """
        limit = self.settings.max_channel_bytes
        for channel in channels:
            if channel in self._publishable and action == "publish":
                continue
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
                detail = (
                    f"a channel's name has at most {counted(limit, 'byte')} here; this one has {len(channel.encode())}"
                )
                raise Problem(400, "invalid_channel", detail, field="channel", limit=limit)
            if action == "publish":
                if len(self._publishable) >= _CHANNELS_REMEMBERED:
                    self._publishable.clear()
                self._publishable.add(channel)

    def check_room(self) -> None:
        """Check that there is room for one more stream.

        Raises:
            Problem: this process has as many as it may have.
        """
        try:
            check_room(self._open(), self.settings.max_streams, self.loop_lag, self.settings.max_lag)
        except Problem:
            self.stats.counters["refused"] += 1
            raise

    def _open(self) -> int:
        gauges = self.own().gauges
        return int(gauges["subscribers"] + gauges["pages"]) + self.counting

    def options(self, channels: Sequence[str]) -> StreamOptions:
        """How a new stream of these channels behaves, as things are now."""
        by = times(self._open() / self.settings.max_streams, self.loop_lag.sustained)
        return patient(for_channels(self.settings.stream, self.settings.slow or {}, channels), by)

    # -- stats

    def own(self) -> ServerStats:
        """This process's stats, those of its hub among them."""
        hub = self.hub.stats()
        counted = self.activity.delivered
        pages = self.pages.total()
        self.stats.counters.update(delivered=hub.delivered - counted, pages_read=hub.pages_read)
        changes = hub.presence_changes.items()
        self.stats.counters.update({f"presence_changes {kind}": count for kind, count in changes})
        self.stats.gauges.update(
            subscribers=hub.streams - pages,
            pages=pages,
            stalled=hub.stalled,
            window_events=hub.window_events,
            window_bytes=hub.window_bytes,
            presence_members=hub.members,
            presence_visitors=hub.visitors,
        )
        return self.stats

    def streams(self) -> int:
        """See `ServedApp.streams`."""
        return int(self.own().gauges["subscribers"])

    def subscribers(self) -> dict[str, int]:
        """Subscribers in this process: of the channels that had events lately, and of what is subscribed to.

        Without the server's own (its counter, the console's pages) and without the channels that begin with `$`.
        """
        subscribed = self.hub.channels(_CHANNELS_SHOWN)
        own = self._own_readers()
        named = {name: count - own[name] for name, count in subscribed.items()}
        named |= self.readers(self.activity.busiest(_CHANNELS_SHOWN))
        return {name: count for name, count in named.items() if count > 0 and not is_internal(name)}

    def readers(self, names: Iterable[str]) -> dict[str, int]:
        """The streams in this process that get each of these channels, without the server's own."""
        own = self._own_readers()
        shown = [(Channels([name_or_pattern(channel)]), count) for channel, count in own.items() if count]
        return {
            name: self.hub.subscribers(name) - sum(count for channels, count in shown if name in channels)
            for name in names
        }

    def patterns(self) -> dict[str, int]:
        """The patterns that clients in this process subscribe to, with their streams."""
        own = self._own_readers()
        found = {name: count - own[name] for name, count in self.hub.patterns().items()}
        return {name: count for name, count in found.items() if count > 0}

    def _own_readers(self) -> Counter[str]:
        """The server's own streams: its counter, the console's pages."""
        own = Counter(self.pages)
        own[">"] += self.activity.subscribers
        return own


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service
