"""The authorizer of newswire's own: it knows tokens, API keys and tickets, and what each lets its holder do.

`newswire serve` makes one from its settings, and asks it before each subscribe, publish and read. An application with a
hub of its own makes one too, and calls it in its routes; docs/auth.md shows how. `Denied`, which it raises, is an
answer (`newswire.delivery.problem.Problem`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Final

from starlette.requests import Request

from newswire.hub.hub import Hub
from newswire.hub.subscription import Subscription
from newswire.log.position import Position
from newswire.server.auth.access import Access, Action, Denied
from newswire.server.auth.api_keys import PREFIX, ApiKeys
from newswire.server.auth.credentials import TICKET, Credential, check_page, credential_of
from newswire.server.auth.patterns import first_uncovered, read_grants
from newswire.server.auth.revocations import Revocations
from newswire.server.auth.streams import OpenStreams
from newswire.server.auth.tickets import FIRST_USE, Tickets, new_ticket
from newswire.server.auth.tokens import REALM, Tokens, invalid
from newswire.validate import check_kind, check_list, check_secret

COOKIE: Final = "__Host-newswire"
# A browser takes a name that begins with __Host- only with Secure, Path=/ and no Domain (RFC 6265bis, section 4.1.3.2).
_ATTRIBUTES: Final = "Secure; HttpOnly; SameSite=Strict"
_VERBS: Final = {"subscribe": "subscribe to", "read": "read", "publish": "publish to"}
_ADMIN: Final = {"observe": "see what this server does", "revoke": "revoke credentials of others"}


class Auth:
    """Decides by its credentials what a request may do; an `Authorizer`. `await auth(request, action, channels)`.

    Args:
        hub: the hub that the requests are about.
        tokens: which JSON Web Tokens are accepted; None: no token is.
        keys: which API keys are accepted; None: no key is.
        anonymous: patterns that a request without any credential may subscribe to and read.
        origins: the origins of web pages that may publish with a cookie, beside the server's own.
        cookie: the name of the cookie in which a browser may send a token.
        secret: signs tickets (credentials for one URL); the same in all processes. None: a secret that the log keeps.

    Attributes:
        streams: the open streams of this process that have a credential.
        revocations: what was revoked.

    Raises:
        ValueError: `anonymous` has a pattern that is not valid, or more than 1,000 patterns.
        TypeError: an argument is of another kind.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        tokens: Tokens | None = None,
        keys: ApiKeys | None = None,
        anonymous: Sequence[str] = (),
        origins: Collection[str] = (),
        cookie: str = COOKIE,
        secret: str | None = None,
    ) -> None:
        check_kind("hub", hub, Hub)
        if tokens is not None:
            check_kind("tokens", tokens, Tokens)
        if keys is not None:
            check_kind("keys", keys, ApiKeys)
        if secret is not None:
            check_secret("secret", secret)
        check_list("anonymous", anonymous)
        check_list("origins", origins)
        check_kind("cookie", cookie, str)
        self.hub = hub
        self.streams: OpenStreams = OpenStreams()
        self.revocations: Revocations = Revocations(hub, lambda revoked: self.streams.revoked(revoked))
        self._tokens = tokens
        self._keys = keys
        self._secret = secret
        self._tickets = Tickets(hub, secret)
        self._anonymous = Access(subscribe=read_grants(list(anonymous)))
        self._origins = frozenset(origin.lower() for origin in origins)
        self._cookie = cookie

    def change(
        self, *, tokens: Tokens | None, keys: ApiKeys | None, anonymous: Sequence[str], secret: str | None
    ) -> None:
        """Decide by other keys from now on. Streams that are open go on: they end with their credential, or revoked.

        Args:
            tokens, keys, anonymous, secret: see the class.

        Raises:
            ValueError: see the class.
        """
        if tokens is not None and self._tokens is not None:
            tokens.keep_fetched(self._tokens)
        self._tokens = tokens
        self._keys = keys
        self._anonymous = Access(subscribe=read_grants(list(anonymous)))
        if secret != self._secret:
            self._secret = secret
            self._tickets = Tickets(self.hub, secret)

    async def open(self) -> None:
        """Open the hub and read what was revoked. Idempotent; each call does it when it must.

        Raises:
            LogUnavailable: the log can't be read.
        """
        await self.revocations.open()

    # -- requests

    async def __call__(self, request: Request, action: Action, channels: Sequence[str]) -> Access:
        """See `Authorizer`.

        Returns:
            what the request may do, and whose it is: give it to `follow`.

        Raises:
            Denied: the credential is missing or not good (401), or not good for this (403).
            Problem: a page of another origin tries to use a cookie (403), or keys can't be read now (503).
        """
        credential = credential_of(request, self._cookie)
        access = self._anonymous
        if credential is not None:
            try:
                access = await self._verify(credential)
            except Denied:
                # A browser sends its cookie until it has another; that must not lock it out of what anyone may read.
                if credential.where != "cookie" or self._missing(access, action, channels) is not None:
                    raise
        missing = self._missing(access, action, channels)
        if missing is not None:
            raise denied(access, missing)
        if credential is not None and credential.where == "ticket":
            if action != "subscribe":
                raise denied(access, f"{action}: it is for streams")
            return await self._tickets.enter(request, credential.text, use=request.method == "GET")
        if credential is not None and credential.where == "cookie" and action in ("publish", "revoke"):
            check_page(request, self._origins)
        return access

    async def identify(self, request: Request) -> Access:
        """Whose a request is that is about to change something other than channels.

        Raises:
            Denied, Problem: as for a call.
        """
        credential = credential_of(request, self._cookie)
        if credential is None:
            return self._anonymous
        access = await self._verify(credential)
        if credential.where == "ticket":
            raise denied(access, "do this: it is for streams")
        if credential.where == "cookie":
            check_page(request, self._origins)
        return access

    async def _verify(self, credential: Credential) -> Access:
        """What a credential grants; a ticket is only looked at."""
        await self.revocations.open()
        if credential.where == "ticket":
            access = await self._tickets.read(credential.text)
        elif credential.text.startswith(PREFIX) and credential.where == "header":
            if self._keys is None:
                raise invalid("unknown_key", "there is no such API key")
            access = self._keys.verify(credential.text)
        elif self._tokens is None:
            raise invalid("bad_signature", "the token is not signed with a key that this server knows")
        else:
            access = await self._tokens.verify(credential.text)
        self.check_revoked(access)
        return access

    def check_revoked(self, access: Access) -> None:
        """Check that a credential was not revoked.

        Raises:
            Denied: it was.
        """
        if self.revocations.refuses(access):
            raise invalid("revoked", f"the {access.kind} was revoked")

    def _missing(self, access: Access, action: Action, channels: Sequence[str]) -> str | None:
        """What it lacks, in words; None: nothing."""
        if action in _VERBS:
            granted = access.publish if action == "publish" else (*access.subscribe, *self._anonymous.subscribe)
            channel = first_uncovered(granted, channels)
            return None if channel is None else f"{_VERBS[action]} {channel[:100]!r}"
        return None if access.admin else _ADMIN[action]

    def follow(self, subscription: Subscription, access: Access, request: Request | None = None) -> Subscription:
        """End a stream when its credential ends, or is revoked. Call it before the stream begins.

        Args:
            subscription: the stream's.
            access: what `auth(...)` returned for its request.
            request: the request, for limits by address.

        Returns:
            the subscription.

        Raises:
            Denied: the credential was revoked meanwhile.
            Problem: its user or address has as many streams as it may have.
        """
        self.check_revoked(access)
        address = None if request is None else self.streams.address_of(request.scope.get("client"))
        self.streams.follow(subscription, access, address)
        return subscription

    # -- cookies, tickets and revoking

    async def session(self, request: Request) -> str:
        """A `Set-Cookie` that has the token of a request's `Authorization` header.

        Raises:
            Denied: there is no such token, or it is not good.
        """
        credential = credential_of(request, self._cookie)
        if credential is None or credential.where != "header" or credential.text.startswith(PREFIX):
            detail = "a session is made of a token: send Authorization: Bearer TOKEN"
            raise Denied(detail, authenticate=REALM, reason="missing")
        access = await self._verify(credential)
        until = "" if access.expires is None else f"; Max-Age={max(0, int(access.expires - time.time()))}"
        return f"{self._cookie}={credential.text}; Path=/{until}; {_ATTRIBUTES}"

    def no_session(self) -> str:
        """A `Set-Cookie` that takes it away."""
        return f"{self._cookie}=; Path=/; Max-Age=0; {_ATTRIBUTES}"

    async def ticket(
        self, access: Access, channels: Sequence[str], *, subject: str | None = None, first_use: float = FIRST_USE
    ) -> dict[str, object]:
        """Make a stream ticket.

        Args:
            access: whose it is: it opens no more than that, and no longer.
            channels: the channels and patterns that it opens, checked for form.
            subject: another user, for whom a program with an API key, or an admin, asks; None: the same.
            first_use: seconds in which it has to be used.

        Returns:
            `ticket`; `expires`, when it has to be used; `until`, when its streams end for good, after 12 hours at most.
            Both are in seconds since the Unix epoch.

        Raises:
            Denied: `access` does not cover that.
            LogUnavailable: the log that keeps the secret can't be read.
            ImportError: PyJWT is not installed.
        """
        missing = self._missing(access, "subscribe", channels)
        if missing is None and subject not in (None, access.subject) and not (access.admin or access.kind == "key"):
            missing = "make tickets for others"
        if missing is not None:
            raise denied(access, missing)
        ticket, claims = new_ticket(
            await self._tickets.key(),
            subject=access.subject if subject is None else subject,
            subscribe=channels,
            first_use=first_use,
            until=access.expires,
            parent=access.token,
        )
        return {TICKET: ticket, "expires": claims["use"], "until": claims["until"]}

    async def revoke(
        self, *, subject: str | None = None, token: str | None = None, until: float | None = None, again: bool = False
    ) -> Position:
        """End streams and refuse their credentials, on every node with the same log.

        Args:
            subject: all credentials of this user that were made until now; or
            token: the one of this name: a token's `jti`, the id of an API key or of a ticket. What was made with it
                goes too.
            until: when the credential ends by itself, in seconds since the Unix epoch, so that this can be forgotten;
                None: it is kept for good.
            again: only end the streams: their clients may come back.

        Returns:
            the position of the event in the log that says so.

        Raises:
            ValueError: it names neither a subject nor a token, or both, or one of them is empty.
            LogUnavailable, LogUncertain: it can't be stored now, or may not be: revoke again.
        """
        return await self.revocations.revoke(subject=subject, token=token, until=until, again=again)


def denied(access: Access, missing: str) -> Denied:
    """A 401 for a request without a credential, a 403 for one whose credential is not good for something."""
    if access.kind == "anonymous":
        detail = f"a credential is needed to {missing}: send Authorization: Bearer TOKEN"
        return Denied(detail, authenticate=REALM, reason="missing")
    scope = f'{REALM}, error="insufficient_scope"'
    return Denied(f"this {access.kind} does not allow its holder to {missing}", scope=scope, reason="not_granted")
