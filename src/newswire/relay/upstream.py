"""Upstreams: the only hosts that a relay talks to, and the way to talk to them.

A request says a path, never a host. An upstream that sends it elsewhere is not followed: a redirect within its own
origin is, as far as it can be; any other is an error, so that credentials go nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

from newswire.client.transports.base import library
from newswire.redact import without_userinfo
from newswire.relay.responses import refusal
from newswire.validate import check_kind, shown
from newswire.wire.gzip import PIECE, Inflater

if TYPE_CHECKING:
    from newswire.relay.options import RelayOptions

OWN_PATHS: Final = ("runs", "metrics", "health")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_AGAIN_AS_IT_WAS: Final = frozenset({307, 308})
_MOST_REDIRECTS: Final = 3


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service that completions come from.

    Attributes:
        url: where it is, without the path that clients ask for: `https://api.openai.com`. A user and a password in it
            are sent as `Authorization`, instead of what clients send, and are not shown.
        name: its path at the relay is `/name/…`; empty: it gets whatever no other upstream's path begins.

    Raises:
        ValueError: the URL or the name can't be used.
    """

    url: str = field(repr=False)
    name: str = ""

    def __post_init__(self) -> None:
        check_kind("url", self.url, str)
        check_kind("name", self.name, str)
        if self.name and (not _NAME.fullmatch(self.name) or self.name in OWN_PATHS):
            raise ValueError(
                f"an upstream's name is letters, digits, - and _, and not {' or '.join(OWN_PATHS)}: {self.name!r}"
            )
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good or parts.query or parts.fragment:
            raise ValueError(
                f"an upstream is an http or https URL without query, such as https://api.openai.com: {self.place!r}"
            )

    @property
    def place(self) -> str:
        """The URL as it may be shown: without user and password."""
        return without_userinfo(self.url)

    @classmethod
    def parse(cls, text: str) -> Upstream:
        """The upstream that `URL` or `name=URL` says.

        Raises:
            ValueError: it can't be used.
        """
        name, equals, url = text.partition("=")
        return cls(url, name) if equals and "/" not in name else cls(text)

    def __repr__(self) -> str:
        return f"Upstream({self.place!r}, name={self.name!r})"

    def address(self, path: bytes, query: bytes) -> str | None:
        """The URL of a path, percent-encoded as it came; None if it would leave the upstream's own path."""
        if any(unquote_to_bytes(segment) in (b".", b"..") for segment in re.split(rb"/|%2f|\\|%5c", path.lower())):
            return None
        target = path + (b"?" + query if query else b"")
        return self.url.rstrip("/") + target.decode("latin-1")


def origin_of(url: Any) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL of httpx's."""
    port = url.port if url.port is not None else {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, port


def set_timeouts(request: Any, options: RelayOptions) -> None:
    """Give a request of httpx's the relay's time limits, instead of its client's: 5 seconds end every quiet stream."""
    limits = {"connect": options.connect_timeout, "pool": options.connect_timeout}
    request.extensions = {
        **request.extensions,
        "timeout": {**limits, "read": options.idle_timeout, "write": options.idle_timeout},
    }


def hide_userinfo(request: Any) -> None:
    """Move the user and the password of a URL of httpx's to where they belong: httpx writes URLs into its log."""
    url = request.url
    if url.userinfo:
        pair = f"{url.username}:{url.password}".encode()
        request.headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        request.url = url.copy_with(userinfo=b"")


async def body_of(response: Any) -> AsyncIterator[bytes]:
    """The body of a response of httpx's as it comes, decompressed in pieces of bounded size.

    Raises:
        ValueError: it is compressed in a way that can't be read here, or is not what its head says.
    """
    inflater = Inflater(response.headers.get("content-encoding", ""))
    async for data in response.aiter_raw():
        for piece in inflater.feed(data):
            yield piece
            if len(piece) == PIECE:
                await asyncio.sleep(0)  # a few kilobytes may hold megabytes: others take their turns between them


async def send(client: Any, request: Any, *, body: bytes | None) -> Any:
    """Send a request of httpx's and get the response, its head received.

    Args:
        client: an `AsyncClient` of the same library.
        request: what to send.
        body: the request's body, if it can be sent again.

    Raises:
        RelayRefused: the upstream can't be reached, does not answer in time, or redirects to another origin.
    """
    for _ in range(1 + _MOST_REDIRECTS):
        hide_userinfo(request)
        response = await _send_once(client, request)
        if response.status_code not in _REDIRECTS:
            return response
        await response.aclose()
        following = _follow(request, response, body)
        if following is None:
            break
        request = following
    raise refusal(
        502,
        "upstream_redirects",
        f"the upstream answered {response.status_code}, a redirect that a relay does not follow: name the upstream by "
        "the URL where it really is",
        again=False,
    )


async def _send_once(client: Any, request: Any) -> Any:
    httpx = library_of(request)
    try:
        response = await client.send(request, stream=True, auth=None, follow_redirects=False)
    except httpx.TimeoutException as error:
        raise refusal(504, "upstream_timeout", f"the upstream said nothing in time ({_reason(error)})") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise refusal(502, "upstream_unreachable", f"the upstream can't be reached ({_reason(error)})") from error
    if not 100 <= response.status_code <= 599:  # RFC 9110, section 15: to be treated as a 5xx; a server can't send it
        await response.aclose()
        detail = f"the upstream answered with the status {response.status_code}, which HTTP does not have"
        raise refusal(502, "upstream_unreachable", detail)
    return response


def new_request(client: Any, method: str, url: str, *, headers: Any, content: Any) -> Any:
    """A request of the client's library.

    Raises:
        RelayRefused: the library makes none of this URL: it is too long, together with the upstream's.
    """
    httpx = library_of(client)
    try:
        return httpx.Request(method, url, headers=headers, content=content)
    except httpx.InvalidURL as error:
        raise refusal(400, "invalid_path", f"no request to the upstream can have this path: {error}") from None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def check_client(client: Any) -> None:
    """Check that a client can call an upstream; None is one of the relay's own.

    Raises:
        TypeError: it can't.
    """
    if client is not None and not (library(client) and hasattr(client, "aclose") and hasattr(client, "build_request")):
        raise TypeError(f"client is an httpx2.AsyncClient or an httpx.AsyncClient, not {shown(client)}")


def library_of(thing: Any) -> Any:
    """httpx2 or httpx, whichever a client or a request is of."""
    return importlib.import_module(library(thing))


def _follow(request: Any, response: Any, body: bytes | None) -> Any:
    """The request that a redirect leads to; None if it leads to another origin, or can't be made."""
    location = response.headers.get("location")
    safe = request.method in ("GET", "HEAD")
    if not location or not (safe or (response.status_code in _AGAIN_AS_IT_WAS and body is not None)):
        return None
    try:
        url = request.url.join(location)
    except library_of(request).InvalidURL:
        return None
    if origin_of(url) != origin_of(request.url):
        return None
    made = type(request)(request.method, url, headers=request.headers.raw, content=body or None)
    made.extensions = request.extensions
    return made
