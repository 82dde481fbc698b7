"""The authorizer of newswire's own: it knows tokens and what each lets its holder do.

`newswire serve` makes one from its settings, and asks it before each subscribe, publish and read. An application with a
hub of its own makes one too, and calls it in its routes:

    auth = Auth(hub, tokens=Tokens([secret_key(SECRET)]))

    @app.get("/rooms/{room}")
    async def room(request: Request, room: str):
        name = channel("room", room)
        access = await auth(request, "subscribe", [name])
        subscription = hub.subscribe(name, after=last_event_id(request))
        return EventSourceResponse(auth.follow(subscription, access))

`Denied`, which it raises, is an answer (`newswire.delivery.problem.Problem`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Final

from starlette.requests import Request

from newswire.hub.hub import Hub
from newswire.hub.subscription import Subscription
from newswire.server.auth.access import Access, Action, Denied
from newswire.server.auth.credentials import Credential, check_page, credential_of
from newswire.server.auth.patterns import first_uncovered, read_grants
from newswire.server.auth.tokens import REALM, Tokens, invalid

COOKIE: Final = "__Host-newswire"
_LATE: Final = 0.2  # seconds: the clocks of streams tick four times a second, and none should end too early
_CHANGES: Final = frozenset({"publish", "revoke"})
_VERBS: Final = {"subscribe": "subscribe to", "read": "read", "publish": "publish to"}


class Auth:
    """Decides about requests by their tokens; an `Authorizer`.

    Args:
        hub: the hub that the requests are about.
        tokens: which tokens are good; None: none is.
        anonymous: patterns that a request without any credential may subscribe to and read.
        origins: of web pages that may publish with a cookie, beside the server's own, in lower case.
        cookie: the name of the cookie that may have a token.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        tokens: Tokens | None = None,
        anonymous: Sequence[str] = (),
        origins: Collection[str] = (),
        cookie: str = COOKIE,
    ) -> None:
        self.hub = hub
        self._tokens = tokens
        self._anonymous = Access(subscribe=read_grants(list(anonymous)))
        self._origins = frozenset(origin.lower() for origin in origins)
        self._cookie = cookie

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
            raise _denied(access, missing)
        if credential is not None and credential.where == "cookie" and action in _CHANGES:
            check_page(request, self._origins)
        return access

    async def _verify(self, credential: Credential) -> Access:
        if self._tokens is None:
            raise invalid("bad_signature", "the token is not signed with a key that this server knows")
        return await self._tokens.verify(credential.text)

    def _missing(self, access: Access, action: Action, channels: Sequence[str]) -> str | None:
        """What it lacks, in words; None: nothing."""
        if action in _VERBS:
            granted = access.publish if action == "publish" else (*access.subscribe, *self._anonymous.subscribe)
            channel = first_uncovered(granted, channels)
            return None if channel is None else f"{_VERBS[action]} {channel[:100]!r}"
        return None if access.admin else f"{action}, which is for admins"

    def follow(self, subscription: Subscription, access: Access) -> Subscription:
        """End a stream when its credential ends. Call it before the stream begins.

        Args:
            subscription: the stream's.
            access: what `auth(...)` returned for its request.

        Returns:
            the subscription.
        """
        if access.expires is not None:
            subscription.live(max(access.expires - time.time(), 0.0) + _LATE)
        return subscription


def _denied(access: Access, missing: str) -> Denied:
    if access.kind == "anonymous":
        return Denied(
            f"a credential is needed to {missing}: send Authorization: Bearer TOKEN",
            authenticate=REALM,
            reason="missing",
        )
    scope = f'{REALM}, error="insufficient_scope"'
    return Denied(f"this {access.kind} is not good enough to {missing}", scope=scope, reason="not_granted")
