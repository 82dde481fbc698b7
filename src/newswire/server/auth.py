"""Authorization: the seam between the server and an application that knows its users.

The server asks before each subscribe, publish and read, and before the head of a response is sent, so that a refusal is
a real status code. It never looks at credentials itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from starlette.requests import Request

from newswire.delivery.problem import Problem

Action: TypeAlias = Literal["subscribe", "publish", "read", "observe"]
"""`subscribe`: open a stream. `publish`: store events. `read`: read history. `observe`: see the console's numbers."""


class Authorizer(Protocol):
    """Decides about requests. Any async callable of this form will do."""

    async def __call__(self, request: Request, action: Action, channels: Sequence[str]) -> None:
        """Return if this request may do that with all of these channels; raise if not.

        Args:
            request: the request; its body must not be read.
            action: what it is about to do.
            channels: names, and for `subscribe` and `read` also patterns, already checked for form.

        Raises:
            Denied: it may not.
        """
        ...


class Denied(Problem):
    """This request may not do that.

    Args:
        detail: what is missing, for the client to read.
        authenticate: the value of `WWW-Authenticate`, which makes it a 401 (say who you are); else it is a 403.
    """

    def __init__(self, detail: str, *, authenticate: str | None = None) -> None:
        if authenticate is None:
            super().__init__(403, "denied", detail)
        else:
            super().__init__(401, "unauthenticated", detail, headers={"www-authenticate": authenticate})


async def allow_all(request: Request, action: Action, channels: Sequence[str]) -> None:
    """The authorizer of a server for one's own machine, or behind something that asks."""
