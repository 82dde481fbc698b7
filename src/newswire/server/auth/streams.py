"""The open streams of this process by whose they are: to end them, and to bound how many one client may have.

A limit refuses the newest, and never ends a stream that works: a client that lost its place would come back at once and
push out the next. Streams that no credential and no limit is about are not kept here, and cost nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from newswire.counted import counted
from newswire.delivery.problem import Problem
from newswire.server.auth.access import Access
from newswire.server.auth.revocations import Revoked

_LATE: Final = 0.2  # seconds: the clocks of streams tick four times a second, and none should end too early
_RETRY_AFTER: Final = (2, 10)
_SLICE: Final = 200  # streams that end in one pass of the event loop: some milliseconds


class Ends(Protocol):
    """What a stream can be ended by: its subscription, or what stands for one."""

    def expire_after(self, seconds: float) -> None:
        """See `Subscription.expire_after`."""
        ...

    def on_end(self, call: Callable[[], object], /) -> None:
        """See `Subscription.on_end`."""
        ...

    def goodbye(self, reason: str | None = None) -> None:
        """See `Subscription.goodbye`."""
        ...


@dataclass(slots=True, eq=False)
class OpenStream:
    """One stream.

    Attributes:
        subscription: its subscription.
        access: whose it is.
        address: where its client is, as `address_of` gives it.
        since: when it began, in seconds since the Unix epoch.
    """

    subscription: Ends
    access: Access
    address: str | None
    since: float


class OpenStreams:
    """The open streams of this process.

    Attributes:
        per_subject: how many streams one subject may have here; None: any number.
        per_address: how many streams one address may have here; None: any number.
    """

    def __init__(self) -> None:
        self.per_subject: int | None = None
        self.per_address: int | None = None
        self._of_subject: dict[str | None, dict[OpenStream, None]] = {}
        self._addresses: Counter[str] = Counter()

    def __iter__(self) -> Iterator[OpenStream]:
        for streams in list(self._of_subject.values()):
            yield from list(streams)

    def address_of(self, client: tuple[str, int] | None) -> str | None:
        """What a client's address counts as; None: addresses don't count."""
        return None if self.per_address is None else address_of(client)

    def check(self, access: Access | None, address: str | None) -> None:
        """Check that there may be one more of them.

        Raises:
            Problem: the subject or the address has as many as it may have.
        """
        if self.per_address is not None and address is not None and self._addresses[address] >= self.per_address:
            raise too_many(
                f"this address has its {counted(self.per_address, 'stream')} open here", "too_many_of_address"
            )
        subject = None if access is None else access.subject
        if self.per_subject is not None and subject is not None:
            if len(self._of_subject.get(subject, ())) >= self.per_subject:
                raise too_many(
                    f"this user has its {counted(self.per_subject, 'stream')} open here", "too_many_of_subject"
                )

    def follow(self, subscription: Ends, access: Access | None, address: str | None = None) -> None:
        """Keep a stream, until it ends; and end it when its credential ends. Call it before the stream begins.

        Raises:
            Problem: see `check`.
        """
        self.check(access, address)
        if access is not None and access.expires is not None:
            subscription.expire_after(max(access.expires - time.time(), 0.0) + _LATE)
        if self.per_address is None:
            address = None
        known = access is not None and (access.subject is not None or access.token is not None)
        if address is None and not known:
            return
        stream = OpenStream(subscription, access or Access(), address, time.time())
        self._of_subject.setdefault(stream.access.subject, {})[stream] = None
        self.enter(address)
        subscription.on_end(partial(self._ended, stream))

    def _ended(self, stream: OpenStream) -> None:
        subject = stream.access.subject
        streams = self._of_subject[subject]
        del streams[stream]
        if not streams:
            del self._of_subject[subject]
        self.leave(stream.address)

    def enter(self, address: str | None) -> None:
        """Count one more stream of an address."""
        if address is not None:
            self._addresses[address] += 1

    def leave(self, address: str | None) -> None:
        """Count one less."""
        if address is not None:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    def revoked(self, revoked: Revoked) -> None:
        """End the streams that a revocation is about."""
        found = self if revoked.token is not None else self._of_subject.get(revoked.subject, ())
        _end([one for one in found if revoked.concerns(one.access)], None if revoked.again else "revoked")


def _end(streams: Sequence[OpenStream], reason: str | None) -> None:
    """End streams, some at a time: the event loop goes on in between."""
    for stream in streams[:_SLICE]:
        stream.subscription.goodbye(reason)
    if len(streams) > _SLICE:
        asyncio.get_running_loop().call_soon(_end, streams[_SLICE:], reason)


def too_many(detail: str, code: str) -> Problem:
    """A 429: this client has to wait, others need not. The time is drawn, so that those refused together part."""
    after = str(random.randint(*_RETRY_AFTER))
    return Problem(429, code, f"{detail}: close one, or try again later", headers={"retry-after": after})


def address_of(client: tuple[str, int] | None) -> str | None:
    """What an address counts as: itself, or of IPv6 the network of 64 bits, which is what one customer gets."""
    if client is None:
        return None
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return client[0] or None
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
