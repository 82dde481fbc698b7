"""Web pages of other origins: which may read, and which may do more.

A browser lets any page send a plain POST to any server it can reach, one on the user's own machine among them. So a
request that a foreign page makes is refused unless the page's origin is configured; configured ones get the CORS
headers that let them read the answers. Programs that are no browser never notice.

What pages of configured origins may do is a `Grants`: `newswire serve` and `newswire relay` have one each.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newswire.delivery.problem import Problem

_READS: Final = frozenset({"GET", "HEAD"})
_MAX_AGE: Final = "3600"  # seconds that a browser remembers a preflight's answer for; most have a lower limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What pages of configured origins may do.

    Attributes:
        methods: they may send.
        headers: they may send; `*` is every one but `Authorization`.
        exposed: headers of answers that they may read; `*` is every one. Browsers always show those of the body.
        credentials: whether they may send cookies; only pages of origins that are named one by one, not by `*`.
        hide: whether to take the origin out of the request, for an application that sends it on to servers that would
            judge it again.
    """

    methods: str
    headers: str
    exposed: str = ""
    credentials: bool = False
    hide: bool = False

    @property
    def preflight(self) -> dict[str, str]:
        """The headers of the answer to a browser that asks first."""
        return {
            "access-control-allow-methods": self.methods,
            "access-control-allow-headers": self.headers,
            "access-control-max-age": _MAX_AGE,
        }


class Origins:
    """Looks at the `Origin` of each request.

    Args:
        allowed: origins, in lower case; `*` is every one.
        grants: what their pages may do.
        variable: of the environment, that sets `allowed`; for the refusal's text.
    """

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...], grants: Grants, variable: str) -> None:
        self._app = app
        self._grants = grants
        self._variable = variable
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        for name, _ in scope["headers"]:
            if name == b"origin":
                break
        else:  # a program, as most are: nothing more is looked at
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers["origin"]
        if is_own(headers, origin):
            await self._app(scope, receive, send)
        elif not _allows(self._allowed, origin):
            if scope["method"] in _READS:
                await self._app(scope, receive, send)  # the browser will not let the page see the answer
            else:
                await foreign(origin, self._variable)(scope, receive, send)
        elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            answer = Response(status_code=204, headers=self._grants.preflight)
            self._grant(answer.headers, origin)
            await answer(scope, receive, send)
        else:
            if self._grants.hide:
                scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() != b"origin"]}
            await self._app(scope, receive, self._granting(origin, send))

    def _grant(self, headers: MutableHeaders, origin: str) -> None:
        if "*" in self._allowed:
            headers["access-control-allow-origin"] = "*"
        else:
            headers["access-control-allow-origin"] = origin
            if self._grants.credentials:
                headers["access-control-allow-credentials"] = "true"
            headers.add_vary_header("Origin")

    def _granting(self, origin: str, send: Send) -> Send:
        async def granting(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"]]}
                headers = MutableHeaders(scope=message)
                self._grant(headers, origin)
                if self._grants.exposed:
                    headers["access-control-expose-headers"] = self._grants.exposed
            await send(message)

        return granting


def _allows(allowed: Collection[str], origin: str) -> bool:
    return "*" in allowed or origin.lower() in allowed


def is_own(headers: Headers, origin: str) -> bool:
    """Whether the page is the server's own. A browser says so itself, where it trusts the connection."""
    fetch_site = headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site in ("same-origin", "none")
    return origin.partition("://")[2].lower() == headers.get("host", "").lower()


def is_foreign(headers: Headers, allowed: Collection[str]) -> bool:
    """Whether a page made the request that is neither the server's own nor of an origin in `allowed`, in lower case.

    For what a GET must not do for such a page: its answer can't be read, but it was done. A picture's request has no
    `Origin`; there the browser says where it comes from, if it trusts the connection.
    """
    origin = headers.get("origin")
    if origin is not None and _allows(allowed, origin):
        return False
    if origin is None:
        return headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
    return not is_own(headers, origin)


def foreign(origin: str | None, variable: str) -> Problem:
    """The answer to a page that may not do what it asks for.

    Args:
        origin: the page's; None: it was not said.
        variable: of the environment, that sets which may.
    """
    if origin is None:
        detail = f"pages of other origins may not do this here: allow theirs with --cors-origin (or {variable})"
    else:
        shown = origin[:100]
        detail = f"pages of {shown} may not send this here: allow them with --cors-origin {shown} (or {variable})"
    return Problem(403, "foreign_origin", detail)
