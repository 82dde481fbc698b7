"""The project as an ASGI application, with newswire's routes at a prefix: `application = asgi_application()`.

The routes get no request of Django's. They know the user by Django's session: its cookie is read as Django's own
middleware does it, and the user found as `request.user` does. What the user may do, the project's function `ALLOW`
says.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings  # type: ignore[import-untyped]
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]
from starlette.requests import Request

from newswire.delivery.asgi import Receive, Scope, Send
from newswire.integrations.django.config import NAME, config, hub
from newswire.integrations.django.streams import release_connections
from newswire.server.auth.access import Access, Action, Denied


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


def asgi_application() -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Make the application: Django's, and newswire's routes (`newswire.asgi_app`) below `NEWSWIRE["PREFIX"]`.

    The project's hub is opened when the server starts, and closed when it stops, which Django alone hears nothing of.
    With `NEWSWIRE["ALLOW"]` requests are those of Django's session; else with `NEWSWIRE["SECRET"]` they need a token
    or a ticket; else everyone may do everything, under the names of this machine.

    Raises:
        ImproperlyConfigured: there is no `PREFIX`, or it is no path.
    """
    from newswire.integrations.django.asgi import SessionAuthorizer
    from newswire.server.mounted import asgi_app
    from newswire.server.settings import Settings

    django = get_asgi_application()
    found = config()
    if not found.prefix:
        raise ImproperlyConfigured(f"{NAME}['PREFIX'] says where newswire's routes are: set it, to '/live' say")
    allow = found.allowed_by()
    try:
        events = asgi_app(
            hub(),
            settings=Settings(jwt_secret=None if allow else found.secret),
            authorize=None if allow is None else SessionAuthorizer(allow),
            prefix=found.prefix,
        )
    except ValueError as error:
        raise ImproperlyConfigured(f"{NAME}: {error}") from error
    prefix = found.prefix

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        ours: Any = scope["type"] == "lifespan" or path == prefix or path.startswith(prefix + "/")
        await (events if ours else django)(scope, receive, send)

    return application
