"""The seam between the server and the part that knows its users: the question, and what the answer says.

The server asks before each subscribe, publish and read, and before the head of a response is sent, so that a refusal is
a real status code. `newswire.server.auth.authority.Auth` answers from tokens, API keys and tickets. An application that
knows its users may answer itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from starlette.requests import Request

from newswire.delivery.problem import Problem
from newswire.validate import shown

Action: TypeAlias = Literal["subscribe", "publish", "read", "observe", "revoke"]
"""`subscribe`: open a stream. `publish`: store events. `read`: read history. `observe`: see the console's numbers.
`revoke`: end the streams of others."""

Kind: TypeAlias = Literal["anonymous", "token", "key", "ticket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a request may do, and whose it is. An authorizer may return one.

    Attributes:
        subject: the user; None if it is not known.
        token: names the credential, to revoke it by: a token's `jti`, the id of an API key or a ticket.
        parent: names the credential that it was made with; revoking that revokes this one too.
        expires: when the credential ends, in seconds since the Unix epoch: its streams end then, with a goodbye. None:
            never.
        issued: when it was made; a subject that is revoked loses what was made before.
        subscribe, publish: patterns of the channels that it is good for.
        admin: whether it may observe and revoke.
        kind: what it is.
        cookie: a `Set-Cookie` for the response, None: none.
    """

    subject: str | None = None
    token: str | None = None
    parent: str | None = None
    expires: float | None = None
    issued: float | None = None
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    admin: bool = False
    kind: Kind = "anonymous"
    cookie: str | None = None


class Authorizer(Protocol):
    """Decides about requests. Any async callable of this form will do."""

    async def __call__(self, request: Request, action: Action, channels: Sequence[str]) -> Access | None:
        """Return if this request may do that with all of these channels; raise if not.

        Args:
            request: the request; its body must not be read.
            action: what it is about to do.
            channels: names, and for `subscribe` and `read` also patterns, already checked for form.

        Returns:
            whose the request is: then its stream ends with its credential, and counts for its subject. Or None.

        Raises:
            Denied: it may not.
        """
        ...


class Denied(Problem):
    """This request may not do that.

    Args:
        detail: what is missing, for the client to read.
        authenticate: the value of `WWW-Authenticate`, which makes it a 401 (say who you are); else it is a 403.
        scope: the same header on a 403: the credential is good, and not for this.
        more: further members of the problem, such as `reason`.
    """

    def __init__(
        self, detail: str, *, authenticate: str | None = None, scope: str | None = None, **more: object
    ) -> None:
        headers = {"www-authenticate": challenge} if (challenge := authenticate or scope) else None
        if authenticate is None:
            super().__init__(403, "denied", detail, headers=headers, **more)
        else:
            super().__init__(401, "unauthenticated", detail, headers=headers, **more)


async def allow_all(request: Request, action: Action, channels: Sequence[str]) -> None:
    """The authorizer of a server for one's own machine, or behind something that asks."""


def check_authorizer(authorize: object) -> None:
    """Check that an argument can decide about requests; None: nothing of the caller's does.

    Raises:
        TypeError: it can't.
    """
    if authorize is not None and not callable(authorize):
        raise TypeError(f"authorize is a function that decides about requests, not {shown(authorize)}")
