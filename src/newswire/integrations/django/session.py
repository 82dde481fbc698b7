"""Who a request is by Django's session, for newswire's routes: they get no request of Django's.

The session's cookie is read as Django's own middleware does it, and the user found as `request.user` does. What the
user may do, the project's function `ALLOW` says.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings  # type: ignore[import-untyped]

from newswire.integrations.django.streams import release_connections
from newswire.server.auth.access import Access, Action, Denied

if TYPE_CHECKING:
    from starlette.requests import Request


class SessionAuthorizer:
    """Asks the project's function; an `Authorizer`.

    Args:
        allow: called with the user (Django's `AnonymousUser` before the login), the action and the channels;
            returns whether it may. It may be async.
    """

    def __init__(self, allow: Callable[..., Any]) -> None:
        self._allow = allow

    async def __call__(self, request: Request, action: Action, channels: Sequence[str]) -> Access | None:
        """See `newswire.server.Authorizer`."""
        user, allowed = await sync_to_async(self._decide)(
            request.cookies.get(settings.SESSION_COOKIE_NAME), action, channels
        )
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if not allowed:
            named = ", ".join(channels)[:200]
            raise Denied(f"you may not {action} {named}".rstrip())
        if not user.is_authenticated:
            return None
        return Access(subject=str(user.pk), subscribe=tuple(channels), publish=tuple(channels), kind="token")

    def _decide(self, cookie: str | None, action: Action, channels: Sequence[str]) -> tuple[Any, Any]:
        from django.contrib.auth import get_user  # type: ignore[import-untyped]  # of an application that may be absent
        from django.http import HttpRequest  # type: ignore[import-untyped]

        request = HttpRequest()
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(cookie)
        try:
            user = get_user(request)
            return user, self._allow(user, action, list(channels))
        finally:
            release_connections()
