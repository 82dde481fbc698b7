"""The project as an ASGI application, with newswire's routes at a prefix: `application = asgi_application()`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]

from newswire.delivery.asgi import Receive, Scope, Send
from newswire.integrations.django.config import NAME, config, hub


def asgi_application() -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Make the application: Django's, and newswire's routes (`newswire.asgi_app`) below `NEWSWIRE["PREFIX"]`.

    The project's hub is opened when the server starts, and closed when it stops, which Django alone hears nothing of.
    With `NEWSWIRE["ALLOW"]` requests are those of Django's session; else with `NEWSWIRE["SECRET"]` they need a token
    or a ticket; else everyone may do everything, under the names of this machine.

    Raises:
        ImproperlyConfigured: there is no `PREFIX`, or it is no path.
    """
    from newswire.integrations.django.session import SessionAuthorizer
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
