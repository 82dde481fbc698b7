"""Stream tickets: credentials for a URL, since a browser's EventSource can't set headers.

A ticket is signed, says what it opens, and is good for one client. Its first use is an event in the log, appended under
the condition that there is none: so it is the first on whatever worker and node. The answer sets a cookie, `HttpOnly`,
`SameSite=Strict` and for this path only, and the browser's own reconnects to the same URL bring it back. The URL alone
opens nothing any more. For a page of another origin, whose cookies the browser keeps back, the first use leaves a lease
instead: see docs/explain/tickets.md for what it asks of a reconnect, and what it is worth.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request

from newswire.errors import InvalidPosition
from newswire.extras import Extra
from newswire.hub.hub import Hub
from newswire.log.channels import Channels, Pattern
from newswire.log.engine import Condition
from newswire.log.position import Position
from newswire.log.secret import SharedSecret
from newswire.server.auth.access import Access
from newswire.server.auth.streams import address_of
from newswire.server.auth.tokens import invalid
from newswire.serving.origins import is_own
from newswire.validate import check_kind, check_seconds
from newswire.wire.event import Event

SECRET: Final = "$auth.secret"
FIRST_USE: Final = 30.0
"""Seconds in which a ticket has to be used, by default."""
NEEDED: Final = "they need PyJWT, which is not installed: pip install 'newswire[auth]'"
"""What a server without PyJWT says about tickets."""
LEASE: Final = 12 * 3600.0
"""Seconds for which reconnects with a ticket go on, by default, at most."""
_USED: Final = "$auth.ticket."
_TYPE: Final = "newswire-ticket"
_MARGIN: Final = 120.0  # seconds that the clocks of nodes may differ by, before what is known of a ticket is removed
_PAGE: Final = 500
_PATH: Final = re.compile(r"[!#-+\--:=-~]*", re.ASCII)  # of a cookie: without blanks, quotes, commas and semicolons


def derived_key(secret: str | bytes) -> bytes:
    """The key that tickets are signed with, of a secret that is for something else."""
    raw = secret.encode() if isinstance(secret, str) else secret
    return hmac.digest(raw, b"newswire tickets", "sha256")


def new_ticket(
    key: bytes,
    *,
    subject: str | None,
    subscribe: Sequence[str],
    first_use: float = FIRST_USE,
    until: float | None = None,
    parent: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """Make a ticket.

    Args:
        key: see `derived_key`.
        subject: the user.
        subscribe: the channels and patterns that it opens.
        first_use: seconds in which it has to be used.
        until: when its streams end for good, in seconds since the Unix epoch; None: after `LEASE`.
        parent: the name of the credential that it is made with.

    Returns:
        the ticket, and its claims.

    Raises:
        ImportError: PyJWT is not installed.
        TypeError, ValueError: the subject is no text, or a time is no number.
    """
    with Extra("making tickets", "auth"):
        import jwt

    check_seconds("first_use", first_use)
    check_seconds("until", until)
    if subject is not None:
        check_kind("subject", subject, str)
    now = time.time()
    claims: dict[str, Any] = {"jti": secrets.token_urlsafe(15), "iat": round(now, 3)}
    claims |= {"use": round(now + first_use, 3), "until": round(min(until or now + LEASE, now + LEASE), 3)}
    claims |= {"subscribe": list(subscribe)}
    claims |= {} if subject is None else {"sub": subject}
    claims |= {} if parent is None else {"parent": parent}
    return jwt.encode(claims, key, "HS256", {"typ": _TYPE}), claims


class Tickets:
    """Makes tickets, and lets each in once.

    Args:
        hub: the hub, whose log knows which were used.
        secret: what the key is derived from, the same on all nodes; None: a secret that the log keeps.
    """

    def __init__(self, hub: Hub, secret: str | None = None) -> None:
        self._hub = hub
        self._secret = SharedSecret(hub.log, SECRET, lambda: hub.lives)
        self._fixed = secret is not None
        self._derived = None if secret is None else (b"", derived_key(secret))  # from what, and the key
        self._swept = 0.0  # when what is over was last removed from the log, by the monotonic clock

    async def key(self) -> bytes:
        """The key that they are signed with."""
        known = self.known_key
        if known is None:
            await self._hub.runtime()
            secret = await self._secret.get()
            known = derived_key(secret)
            self._derived = secret, known
        return known

    @property
    def known_key(self) -> bytes | None:
        """The same, if this process has it, and does not know that the log has lost it."""
        if self._derived is None:
            return None
        secret, key = self._derived
        return key if self._fixed or secret == self._secret.known else None

    async def read(self, ticket: str) -> Access:
        """What a ticket opens, whoever uses it.

        Raises:
            Denied: it is not good.
        """
        return _access(_claims(ticket, await self.key()))

    async def enter(self, request: Request, ticket: str, *, use: bool) -> Access:
        """Let a request in by its ticket.

        Args:
            request: the request.
            ticket: the ticket.
            use: whether it is used now, if that was not done before; else it is only looked at.

        Returns:
            what it opens; with a cookie for the response, if this is its first use.

        Raises:
            Denied: it is not good, or was used by another client.
        """
        key = await self.key()
        claims = _claims(ticket, key)
        id, access, now = str(claims["jti"]), _access(claims), time.time()
        name, value = f"newswire-ticket-{id[:12]}", _sign(key, "cookie", id)
        if hmac.compare_digest(request.cookies.get(name, "").encode(), value.encode()):
            return access
        early = now < claims["use"]
        if early and (not use or await self._use(request, key, id, claims)):
            return _with_cookie(access, name, value, request)
        if await self._has_lease(request, key, id):
            return access
        if early:
            raise invalid("used", "the ticket was used by another client: ask for another")
        raise invalid("expired", "the ticket was to be used earlier, or by another client: ask for another")

    async def _use(self, request: Request, key: bytes, id: str, claims: dict[str, Any]) -> bool:
        """Use a ticket. Returns whether this is the first time."""
        members = {"until": claims["until"], "lease": _lease_of(request, key, id)}
        channel = _USED + id
        event = Event(json.dumps(members), "used")
        stored = await self._hub.log.append_if([(channel, event)], Condition(channel, 0))
        await self._sweep()
        return stored is not None

    async def _has_lease(self, request: Request, key: bytes, id: str) -> bool:
        """Whether a request without the cookie comes from the client that has used the ticket first."""
        lease = _lease_of(request, key, id)
        if lease is None or not self._is_reconnect(request):
            return False
        [entry] = await self._hub.log.newest([_USED + id])
        known = None if entry is None else json.loads(entry.data).get("lease")
        return isinstance(known, str) and hmac.compare_digest(known, lease)

    def _is_reconnect(self, request: Request) -> bool:
        """Whether it brings a cursor of this log, as an EventSource does that was connected: a stolen URL has none."""
        try:
            position = Position.parse(request.headers.get("last-event-id", ""))
        except InvalidPosition:
            return False
        return self._hub.lives.resume(position.epoch, position.offset) is not None

    async def _sweep(self) -> None:
        """Remove from the log, now and then, what it knows of tickets that have ended by themselves."""
        if time.monotonic() < self._swept:
            return
        self._swept = time.monotonic() + LEASE / 12
        log, channels, after = self._hub.log, Channels([Pattern(f"{_USED}*")]), 0
        latest = (await log.span()).latest
        while after < latest:
            page = await log.read(channels, after, _PAGE)
            over = [one for one in page.entries if json.loads(one.data)["until"] < time.time() - _MARGIN]
            await log.drop({entry.channel: entry.offset for entry in over})
            if page.through <= after:
                return
            after = page.through


def _claims(ticket: str, key: bytes) -> dict[str, Any]:
    try:
        import jwt
        from jwt.exceptions import PyJWTError
    except ModuleNotFoundError:  # it is not needed for API keys: any request may bring what looks like a ticket
        raise invalid("no_tickets", f"this server takes no tickets: {NEEDED}") from None

    bad = invalid("bad_signature", "the ticket is not one of this server's")
    if len(ticket) > 64 * 2**10:
        raise bad
    try:
        head = jwt.get_unverified_header(ticket)
        claims = jwt.decode(ticket, key, algorithms=["HS256"], options={"verify_iat": False})
    except (PyJWTError, ValueError, RecursionError):
        raise bad from None
    if head.get("typ") != _TYPE:
        raise bad
    if claims["until"] <= time.time():
        raise invalid("expired", "the ticket has expired: ask for another")
    return claims


def _access(claims: dict[str, Any]) -> Access:
    return Access(
        subject=claims.get("sub"),
        token=claims["jti"],
        parent=claims.get("parent"),
        expires=claims["until"],
        issued=claims["iat"],
        subscribe=tuple(claims["subscribe"]),
        kind="ticket",
    )


def _sign(key: bytes, *parts: str) -> str:
    signed = hmac.digest(key, "\0".join(parts).encode("utf-8", "surrogatepass"), "sha256")
    return base64.urlsafe_b64encode(signed).decode().rstrip("=")


def _lease_of(request: Request, key: bytes, id: str) -> str | None:
    """What a client without cookies is known by: its page, its address and its browser. None: cookies come."""
    origin = request.headers.get("origin")
    if origin is None or is_own(request.headers, origin):
        return None
    client = request.scope.get("client")
    address = address_of(None if client is None else (client[0], client[1])) or ""
    browser = hashlib.sha256(request.headers.get("user-agent", "").encode()).hexdigest()
    return _sign(key, "lease", id, origin, address, browser)


def _with_cookie(access: Access, name: str, value: str, request: Request) -> Access:
    scope = request.scope
    # As the browser has it: with what a proxy or a mount puts before it (the ASGI specification, `root_path`).
    path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1").partition("?")[0]
    if not _PATH.fullmatch(path):
        path = path[: path.index("/", 1)] if "/" in path[1:] else "/"  # the folder: a cookie can't say the rest
    seconds = max(0, int((access.expires or 0.0) - time.time()))
    secure = "; Secure" if request.url.scheme == "https" else ""
    cookie = f"{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    return replace(access, cookie=cookie)
