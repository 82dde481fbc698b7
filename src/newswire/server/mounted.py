"""The server's routes as an application to mount: `app.mount("/newswire", newswire.asgi_app(hub))`.

An application that is mounted gets no lifespan of its own, and need not be served by the event loop that made it. So
it opens the hub with the first request, and again when the hub was opened again meanwhile, in another event loop too.
The parts that belong to one opening (what was revoked, which streams are open, what the console counts) are made with
it. The hub's owner closes the hub; where a server calls this application directly, its lifespan does both.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from newswire.delivery.problem import problem_of
from newswire.errors import NewswireError
from newswire.hub.hub import Hub
from newswire.hub.runtime import HubRuntime
from newswire.log.retry import retrieved
from newswire.server.app import create_app
from newswire.server.auth import Authorizer
from newswire.server.auth.access import check_authorizer
from newswire.server.service import Service
from newswire.server.settings import Settings
from newswire.validate import check_kind, options_or

_EVERY_HOST: Final = ("*",)  # the application around it has its own rule, and each request has to show who it is


def asgi_app(
    hub: Hub[Any], *, settings: Settings | None = None, authorize: Authorizer | None = None, prefix: str = ""
) -> MountedApp:
    """Make an ASGI application of all of the server's routes, for any framework to mount, or for a server to serve.

    Without `authorize`, and without settings that ask for credentials, everyone may subscribe and publish. It then
    answers only to the names of this machine (`localhost`, the address of the connection), as `newswire serve` does,
    until `settings.allowed_hosts` names others.

    Args:
        hub: the hub to serve.
        settings: how the routes behave; see `newswire.server.Settings`. `log`, `host`, `port` and `workers` are for
            the command.
        authorize: called before each subscribe, publish and read; None: the settings say which tokens are good.
        prefix: the path that it stands below, such as `/newswire`, where what calls it says so in no other way.
            Starlette, FastAPI and Litestar say it when they mount an application.

    Returns:
        the application.

    Raises:
        ValueError: `prefix` is no path.
        TypeError: an argument is of another kind.
    """
    check_kind("hub", hub, Hub)
    check_kind("prefix", prefix, str)
    settings = options_or("settings", settings, Settings)
    check_authorizer(authorize)
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ValueError(f"prefix is a path such as '/newswire', without a slash at its end, not {prefix!r}")
    if not settings.allowed_hosts and (authorize is not None or settings.authenticates):
        settings = replace(settings, allowed_hosts=_EVERY_HOST)
    return MountedApp(hub, settings, authorize, prefix)


class MountedApp:
    """The server's routes, on a hub that somebody else opens and closes. `asgi_app` makes one.

    Attributes:
        hub: the hub that it serves.
    """

    def __init__(self, hub: Hub[Any], settings: Settings, authorize: Authorizer | None, prefix: str) -> None:
        self.hub = hub
        self._settings = settings
        self._authorize = authorize
        self._prefix = prefix
        self._app: ASGIApp | None = None
        self._opened: HubRuntime | None = None  # the opening of the hub that `_app` belongs to
        self._opening: asyncio.Task[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through a server's lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        scope = self._placed(scope)
        if scope["type"] == "http" and scope["path"] == scope.get("root_path", ""):
            await _redirect(scope, send)  # the page's links are relative to a folder
            return
        try:
            app = await self._current()
        except NewswireError as error:
            if scope["type"] != "http":
                raise
            await problem_of(error)(scope, receive, send)
            return
        await app(scope, receive, send)

    def _placed(self, scope: Scope) -> Scope:
        """The scope with this application's own path: a copy, since Starlette writes into it."""
        root, path, prefix = scope.get("root_path", ""), scope["path"], self._prefix
        if path.endswith("/") and not (scope.get("raw_path") or b"/").partition(b"?")[0].endswith(b"/"):
            path = path[:-1]  # Litestar adds one
        below = path.removeprefix(root)
        if prefix and not root.endswith(prefix) and (below == prefix or below.startswith(prefix + "/")):
            root += prefix
            path = root + below.removeprefix(prefix)
        return {**scope, "root_path": root, "path": path}

    async def _current(self) -> ASGIApp:
        """The routes on the hub as it is open now.

        Raises:
            NewswireError: the hub is closed, or its log can't be opened.
        """
        runtime = await self.hub.runtime()
        if runtime is self._opened and self._app is not None:
            return self._app
        opening = self._opening
        if opening is None or opening.done() or opening.get_loop() is not asyncio.get_running_loop():
            opening = asyncio.create_task(self._open(runtime), name="newswire routes open")
            opening.add_done_callback(retrieved)
            self._opening = opening
        try:
            return await asyncio.shield(opening)
        finally:
            if opening.done() and self._opening is opening:
                self._opening = None

    async def _open(self, runtime: HubRuntime) -> ASGIApp:
        app = create_app(self._settings, self.hub, self._authorize)
        service: Service = app.state.service
        await service.open()
        self.hub.before_close(partial(service.close, 0.0))
        self._app, self._opened = app, runtime
        return app

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """For a server that serves this application by itself."""
        await receive()
        try:
            await self.hub.open()
            await self._current()
        except Exception as error:  # the server ends with this text
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.hub.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _redirect(scope: Scope, send: Send) -> None:
    query = scope.get("query_string", b"")
    raw = scope.get("raw_path") or scope["path"].encode()
    location = raw.partition(b"?")[0] + b"/" + (b"?" + query if query else b"")
    await send({"type": "http.response.start", "status": 307, "headers": [(b"location", location)]})
    await send({"type": "http.response.body", "body": b""})
