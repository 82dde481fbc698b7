"""Web pages of other origins: who may read, and who may publish.

A browser lets any page send a plain POST to any server it can reach, one on the user's own machine among them. So a
request that a foreign page makes is refused unless the page's origin is configured; configured ones get the CORS
headers that let them read the answers. Programs that are no browser never notice.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newswire.server.problem import Problem, respond

_PREFLIGHT: Final = {
    "access-control-allow-methods": "GET, HEAD, POST",
    "access-control-allow-headers": "Authorization, Cache-Control, Content-Type, Last-Event-ID",
    "access-control-max-age": "3600",
}
_READS: Final = frozenset({"GET", "HEAD"})


class Origins:
    """Looks at the `Origin` of each request.

    Args:
        allowed: origins, in lower case; `*` is every one.
    """

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or _is_own(headers, origin):
            await self._app(scope, receive, send)
        elif not self._allows(origin):
            if scope["method"] in _READS:
                await self._app(scope, receive, send)  # the browser will not let the page see the answer
            else:
                await respond(_foreign(origin))(scope, receive, send)
        elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await Response(status_code=204, headers={**self._granted(origin), **_PREFLIGHT})(scope, receive, send)
        else:
            await self._app(scope, receive, self._granting(origin, send))

    def _allows(self, origin: str) -> bool:
        return "*" in self._allowed or origin.lower() in self._allowed

    def _granted(self, origin: str) -> dict[str, str]:
        if "*" in self._allowed:
            return {"access-control-allow-origin": "*"}
        return {"access-control-allow-origin": origin, "vary": "Origin"}

    def _granting(self, origin: str, send: Send) -> Send:
        async def granting(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"]]}
                MutableHeaders(scope=message).update(self._granted(origin))
            await send(message)

        return granting


def _is_own(headers: Headers, origin: str) -> bool:
    """Whether the page is the server's own. A browser says so itself, where it trusts the connection."""
    fetch_site = headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site in ("same-origin", "none")
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _foreign(origin: str) -> Problem:
    detail = (
        f"pages of {origin[:100]} may not publish here: allow them with --cors-origin {origin[:100]} "
        "(or NEWSWIRE_CORS_ORIGINS)"
    )
    return Problem(403, "foreign_origin", detail)
