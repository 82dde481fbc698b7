"""What was revoked, on every node with the same log: through the log itself, in a channel that no client reads.

Revoking appends an event. Each process follows the channel, remembers what it says, and ends the streams that it is
about. So it arrives as fast as any event does, holds for processes that start later, and needs no second bus. A process
that can't follow its log takes no new streams, so it lets in no revoked credential either.

A subject that is revoked loses all credentials that were made until then; what is made later is good. Nothing expires
here unless `until` says so: a token may be good for years.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from newswire.errors import Closed, NewswireError
from newswire.hub.frames import Chunk
from newswire.hub.hub import Hub
from newswire.hub.options import IN_PROCESS
from newswire.hub.runtime import HubRuntime
from newswire.hub.subscription import Subscription
from newswire.log.channels import Channels
from newswire.log.position import Position
from newswire.server.auth.access import Access

logger: logging.Logger = logging.getLogger("newswire.server")

CHANNEL: Final = "$auth.revoked"
_PAGE: Final = 1000
_STALE: Final = 1000  # events at the channel's beginning that mean nothing any more, before they are removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """One revocation.

    Attributes:
        at: when, in seconds since the Unix epoch.
        subject: whose credentials; None: the one of `token`.
        token: the name of a credential; None: all of `subject`.
        until: when it may be forgotten, because the credential has ended by itself; None: never.
        again: the streams end, and the credential stays good: the clients come back.

    Raises:
        ValueError: it names neither a subject nor a token, or both, or one of them is empty.
    """

    at: float
    subject: str | None = None
    token: str | None = None
    until: float | None = None
    again: bool = False

    def __post_init__(self) -> None:
        if (self.subject is None) == (self.token is None) or not (self.subject or self.token):
            raise ValueError("name a subject, or a token by its jti, and not both")

    def concerns(self, access: Access) -> bool:
        """Whether it is about a credential."""
        if self.token is not None:
            return self.token in (access.token, access.parent)
        return access.subject == self.subject and (access.issued is None or access.issued <= self.at)


class Revocations:
    """What was revoked. A sink of the hub's.

    Args:
        hub: the hub, whose log has it.
        on_revoked: called with each revocation when it arrives.
    """

    wire = False

    def __init__(self, hub: Hub, on_revoked: Callable[[Revoked], object]) -> None:
        self._hub = hub
        self._on_revoked = on_revoked
        self._subjects: dict[str, Revoked] = {}
        self._tokens: dict[str, Revoked] = {}
        self._runtime: HubRuntime | None = None  # of the hub that is followed
        self._subscription: Subscription | None = None
        self._opening: tuple[HubRuntime, asyncio.Lock] | None = None  # a lock of its own for each life of the hub
        self._reading: asyncio.Task[None] | None = None

    @property
    def subscribers(self) -> int:
        """1 while it follows the log: what it adds to the hub's own number."""
        return 0 if self._subscription is None else 1

    async def open(self) -> None:
        """Read what the log has, and follow it. Idempotent.

        Raises:
            LogUnavailable: the log can't be read.
        """
        runtime = await self._hub.runtime()
        if runtime is self._runtime:
            return
        if self._opening is None or self._opening[0] is not runtime:
            self._opening = (runtime, asyncio.Lock())
        async with self._opening[1]:
            if runtime is not self._runtime:
                span = await self._hub.log.span()
                through = await self._read(span.latest)
                subscription = self._hub.subscribe(CHANNEL, after=Position(span.epoch, through))
                await subscription.open()
                self._subscription = subscription
                subscription.attach(self, IN_PROCESS)
                self._runtime = runtime

    async def _read(self, latest: int) -> int:
        """Take what is kept, up to an offset; and remove the part of it that means nothing any more.

        What this process knows and the log does not (it was wiped, or an older copy was put back) is stored again, for
        processes that start later.
        """
        channel, after, stale = Channels([CHANNEL]), 0, 0
        known = {_key_of(one): one for one in (*self._tokens.values(), *self._subjects.values())}
        live: dict[str, int] = {}  # where the newest of each is
        while after < latest:
            page = await self._hub.log.read(channel, after, _PAGE)
            for entry in page.entries:
                revoked = _revoked_of(entry.data)
                if revoked is None or revoked.again or _is_over(revoked):
                    stale += 1
                    continue
                self._take(revoked)
                key = _key_of(revoked)
                stale += key in live
                live[key] = entry.offset
                if key in known and known[key].at <= revoked.at:
                    del known[key]
            if page.through <= after:
                break
            after = page.through
        if stale >= _STALE:
            await self._hub.log.drop({CHANNEL: min(live.values(), default=after + 1) - 1})
        for key, revoked in known.items():
            if not _is_over(revoked):
                text = _text_of(revoked)
                await self._hub.publish(CHANNEL, text, event="revoked", idempotency_key=f"{revoked.at} {key}"[:255])
        return after

    def refuses(self, access: Access) -> bool:
        """Whether a credential was revoked."""
        for name in (access.token, access.parent):
            if name is not None and name in self._tokens:
                return True
        revoked = None if access.subject is None else self._subjects.get(access.subject)
        return revoked is not None and revoked.concerns(access)

    async def revoke(
        self, *, subject: str | None = None, token: str | None = None, until: float | None = None, again: bool = False
    ) -> Position:
        """Revoke; see `Revoked`.

        Returns:
            the position of the event that says so: it is stored.

        Raises:
            ValueError: see `Revoked`.
        """
        revoked = Revoked(at=time.time(), subject=subject, token=token, until=until, again=again)
        await self.open()
        position = await self._hub.publish(CHANNEL, _text_of(revoked), event="revoked")
        self._take(revoked)  # here at once, whenever the follower comes to it
        return position

    def _take(self, revoked: Revoked) -> None:
        if not revoked.again:
            if revoked.token is not None:
                self._tokens[revoked.token] = revoked
                if len(self._tokens) % _STALE == 0:
                    self._tokens = {name: one for name, one in self._tokens.items() if not _is_over(one)}
            elif revoked.subject is not None:
                known = self._subjects.get(revoked.subject)
                if known is None or known.at < revoked.at:
                    self._subjects[revoked.subject] = revoked
        self._on_revoked(revoked)

    # -- the sink

    def write(self, chunk: Chunk) -> bool:
        for frame in chunk.frames:
            if not frame.channel:  # a gap: the log was replaced
                self._read_again()
            elif (revoked := _revoked_of(frame.data)) is not None:
                asyncio.get_running_loop().call_soon(self._take, revoked)  # the hub is in the midst of a round
        return True

    def end(self, last: Chunk | None) -> None:
        subscription, self._subscription = self._subscription, None
        self._runtime = None
        if subscription is not None:
            subscription.ended()

    def cut(self) -> None:
        self._subscription = self._runtime = None

    def _read_again(self) -> None:
        async def read() -> None:
            try:
                await self._read((await self._hub.log.span()).latest)
            except (NewswireError, Closed) as error:
                self._runtime = None  # the next request opens it again, or is refused
                logger.warning("what was revoked can't be read: %s", error)

        self._reading = asyncio.create_task(read(), name="newswire reads what was revoked")


def _key_of(revoked: Revoked) -> str:
    return f"token {revoked.token}" if revoked.token is not None else f"subject {revoked.subject}"


def _is_over(revoked: Revoked) -> bool:
    return revoked.until is not None and revoked.until < time.time()


def _text_of(revoked: Revoked) -> str:
    members: dict[str, Any] = {"at": revoked.at}
    for name in ("subject", "token", "until"):
        if (value := getattr(revoked, name)) is not None:
            members[name] = value
    return json.dumps(members | ({"again": True} if revoked.again else {}))


def _revoked_of(text: str) -> Revoked | None:
    try:
        return Revoked(**json.loads(text))
    except (ValueError, TypeError):
        logger.error("passed over what is no revocation: %.100r", text)
        return None
