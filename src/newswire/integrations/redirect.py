"""Streams that another server sends: the address of one, with a ticket that opens it.

A WSGI worker that streams is taken for as long as the stream is open. So it answers 307 instead, and the browser's
EventSource follows that to a server on the same log: `newswire serve`, or `newswire.asgi_app` in an ASGI process. The
application has said who may read what, and the ticket passes that on. When the stream breaks, the EventSource asks the
application again, and gets another ticket. Nothing here speaks HTTP; each framework makes a response of the address.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from newswire.delivery.request import CURSOR
from newswire.errors import InvalidSetting
from newswire.extras import Extra
from newswire.hub.frames import FrameForm
from newswire.hub.hub import Hub
from newswire.hub.start import From
from newswire.hub.subscription import Subscription
from newswire.log.channels import Channels
from newswire.validate import check_kind, check_list, check_secret

if TYPE_CHECKING:
    from newswire.server.auth.tickets import Tickets

# `newswire.server.auth` is imported late: it needs Starlette and PyJWT, and a redirect without tickets needs neither.


def parameters_of(subscription: Subscription) -> list[tuple[str, str]]:
    """What the query of its address has to say for a stream to be as this subscription, which was not opened.

    Its channels are not among them, nor its member, whom the server knows by the ticket.
    """
    start, found = subscription.start, []
    if start is From.EARLIEST:
        found.append(("from", "earliest"))
    elif start is not None and not isinstance(start, From):
        found.append((CURSOR, str(start)))
    if subscription.form is FrameForm.ENVELOPE:
        found.append(("envelope", "json"))
    return found


class StreamServer:
    """The server that streams for this application.

    Args:
        url: where browsers reach it, with the prefix of its routes: `https://live.example.org`, or `/live`.
        secret: its `jwt_secret`. None: the secret for tickets that the log keeps, if there is a hub.
        hub: a hub on the same log. Without one and without a secret the server needs no credentials, and gets
            no tickets.

    Attributes:
        url: as given, without a slash at its end.

    Raises:
        InvalidSetting: `url` is no address.
        ImportError: tickets need a package that is not installed; the message says which extras bring it.
    """

    def __init__(self, url: str, *, secret: str | None = None, hub: Hub[Any] | None = None) -> None:
        check_kind("url", url, str)
        if secret is not None:
            check_secret("secret", secret)
        if hub is not None:
            check_kind("hub", hub, Hub)
        if not url.startswith(("http://", "https://", "/")) or "?" in url or "#" in url:
            raise InvalidSetting("StreamServer", "url", url, "https://live.example.org, or a path such as /live")
        if hub is not None or secret is not None:
            with Extra("a StreamServer with tickets", "server,auth"):  # here, and not at the first request
                import jwt as _  # noqa: F401

                import newswire.server.auth as _auth  # noqa: F401
        self.url: str = url.rstrip("/")
        self._hub = hub
        self._secret = secret
        self._key: bytes | None = None  # of `secret`
        self._tickets: Tickets | None = None  # of `hub`
        self._lock = threading.Lock()

    def location(
        self,
        channels: Channels | Iterable[str],
        *,
        subject: str | None = None,
        after: str | None = None,
        first_use: float = 30.0,
        until: float | None = None,
        more: Iterable[tuple[str, str]] = (),
    ) -> str:
        """The address of a stream, with a ticket in it if the server needs one.

        Call it in a thread, not in an event loop: the first call may read the log.

        Args:
            channels: names and patterns: those of a subscription, or `["news", Pattern("room.*")]`.
            subject: the user; what revokes the user's credentials ends the stream.
            after: the cursor of the request that is redirected.
            first_use: seconds in which the ticket has to be used.
            until: when the stream ends for good, in seconds since the Unix epoch; None: after 12 hours.
            more: more parameters of the stream's query, such as `[("from", "earliest")]`.

        Raises:
            InvalidChannel: one of the channels is none.
            LogUnavailable: the log that keeps the secret can't be read.
        """
        if not isinstance(channels, Channels):
            check_list("channels", channels)
            channels = Channels(channels)
        if after is not None:
            check_kind("after", after, str)
        names = sorted((*channels.names, *channels.patterns))
        query = [("channel", name) for name in names] if len(names) > 1 else []
        query += more
        if after:
            query.append((CURSOR, after))
        key = self._ticket_key()
        if key is not None:
            from newswire.server.auth.credentials import TICKET
            from newswire.server.auth.tickets import new_ticket

            ticket, _ = new_ticket(key, subject=subject, subscribe=names, first_use=first_use, until=until)
            query.append((TICKET, ticket))
        path = "/stream" if len(names) > 1 else f"/channels/{quote(names[0], safe='')}"
        return f"{self.url}{path}{'?' if query else ''}{urlencode(query)}"

    def ticket(
        self, channels: Iterable[str], *, subject: str | None = None, first_use: float = 30.0
    ) -> dict[str, object] | None:
        """Make a ticket, as `POST /tickets` of the server does. Call it in a thread, not in an event loop.

        Args:
            channels: names and patterns, as texts.
            subject: the user.
            first_use: seconds in which it has to be used.

        Returns:
            `ticket`; `expires`, when it has to be used; `until`, when its streams end for good. None: the server needs
            no credentials.

        Raises:
            LogUnavailable: the log that keeps the secret can't be read.
        """
        check_list("channels", channels)
        key = self._ticket_key()
        if key is None:
            return None
        from newswire.server.auth.credentials import TICKET
        from newswire.server.auth.tickets import new_ticket

        made, claims = new_ticket(key, subject=subject, subscribe=list(channels), first_use=first_use)
        return {TICKET: made, "expires": claims["use"], "until": claims["until"]}

    def _ticket_key(self) -> bytes | None:
        if self._hub is None and self._secret is None:
            return None
        from newswire.server.auth.tickets import Tickets, derived_key

        with self._lock:
            if self._hub is not None and self._secret is None:
                if self._tickets is None:
                    self._tickets = Tickets(self._hub)
                return self._tickets.known_key or self._hub.sync.call(self._tickets.key)
            if self._key is None and self._secret is not None:
                self._key = derived_key(self._secret)
            return self._key
