"""Streams in WSGI applications: sent elsewhere, or by a worker thread that each holds for as long as it is open.

WSGI has no third way. `WsgiApp` publishes here, and answers requests for streams with 307 and the address of the same
stream at a server that holds no thread for it; see `newswire.integrations.redirect`. `WsgiStream` streams here: give
the server threads enough (`gunicorn --worker-class gthread --threads 200`). The hub runs in a thread of its own; see
`newswire.hub.lifecycle`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qs

from newswire.delivery.drain import Worker, drain_of
from newswire.delivery.problem import Problem, not_found, problem_of, title
from newswire.delivery.request import last_event_id
from newswire.errors import NewswireError
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.exchange import Exchange, pairs
from newswire.integrations.redirect import StreamServer
from newswire.log.channels import is_internal, name_or_pattern

__all__ = ["Authorize", "StreamServer", "WsgiApp", "WsgiStream"]

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., object]
Authorize: TypeAlias = Callable[[Environ, Literal["subscribe", "publish"], Sequence[str]], str | None]
"""Returns the user of a request that may do this with all of these channels, or None; raises `PermissionError`."""

_CHANNEL: Final = "/channels/"
_MAX_BODY: Final = 2**20


class WsgiStream:
    """A WSGI application that answers each request with one stream.

    Args:
        hub: the hub. It opens itself, in a thread of its own.
        content: a subscription of this hub's, for one request: `hub.subscribe("news", after=last_event_id(environ))`.
        options: see `StreamOptions`.
        status: the status of the response.
        headers: more headers.
    """

    def __init__(
        self,
        hub: Hub,
        content: Subscription,
        *,
        options: StreamOptions | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._hub = hub
        self._content = content
        self._more: dict[str, Any] = {"options": options, "status": status, "headers": headers}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Answer one request; see PEP 3333."""
        body = self.open(environ.get("REQUEST_METHOD", "GET"), environ.get("HTTP_ACCEPT_ENCODING"))
        start_response(body.exchange.reason, pairs(body.exchange.headers))
        return body

    def open(self, method: str, accept_encoding: str | None = None) -> Body:
        """Begin the stream; the head is known then. Both arguments are the request's."""

        worker = _gunicorns_worker()

        async def begin() -> Exchange:
            if worker is not None:
                drain_of(asyncio.get_running_loop()).follow(worker)
            exchange = Exchange(self._content, method=method, accept_encoding=accept_encoding, **self._more)
            await exchange.start()
            return exchange

        return Body(self._hub, self._hub.sync.call(begin))


def _gunicorns_worker() -> Worker | None:
    """The worker of gunicorn's that calls us, if one does. Nothing that it gives an application leads to it."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if hasattr(found, "alive") and any(kind.__module__ == "gunicorn.workers.base" for kind in type(found).__mro__):
            return found
        frame = frame.f_back
    return None


class Body:
    """The chunks of a stream, drawn by a thread.

    Attributes:
        exchange: whose chunks these are.
    """

    def __init__(self, hub: Hub, exchange: Exchange) -> None:
        self._hub = hub
        self.exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self._hub.sync.call(self.exchange.next)
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Called by the server when the client has left, or has everything."""
        self._hub.sync.call(self.exchange.aclose)


class WsgiApp:
    """A WSGI application with the routes of a hub, for a WSGI framework to mount at a prefix.

    `POST /channels/NAME` publishes. `GET /channels/NAME` and `GET /stream?channel=A&channel=B` answer 307: the stream
    is at `streams`.

    Args:
        hub: the hub that publishes. It opens itself, in a thread of its own.
        streams: the server that streams, on the same log.
        authorize: decides about each request; None: everyone may do everything.
    """

    def __init__(self, hub: Hub[Any], streams: StreamServer, *, authorize: Authorize | None = None) -> None:
        self._hub = hub
        self._streams = streams
        self._authorize = authorize

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; see PEP 3333."""
        try:
            status, headers, body = self._answer(environ)
        except NewswireError as error:
            status, headers, body = _of_problem(problem_of(error))
        except Problem as problem:
            status, headers, body = _of_problem(problem)
        if environ["REQUEST_METHOD"] == "HEAD":
            body = b""
        start_response(f"{status} {title(status)}", [*headers, ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, environ: Environ) -> tuple[int, list[tuple[str, str]], bytes]:
        path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
        method = environ["REQUEST_METHOD"]
        if path == "/stream":
            channels = parse_qs(environ.get("QUERY_STRING", "")).get("channel", [])
            allowed: tuple[str, ...] = ("GET", "HEAD")
        elif path.startswith(_CHANNEL) and len(path) > len(_CHANNEL):
            channels = [path.removeprefix(_CHANNEL)]
            allowed = ("GET", "HEAD", "POST")
        else:
            raise not_found(f"there is nothing at {path[:200]}: streams are at /channels/NAME")
        if not channels:
            raise Problem(400, "invalid_query", "name at least one channel: /stream?channel=news", field="channel")
        if method not in allowed:
            detail = f"{method[:20]} is not possible at {path[:200]}; what is: {', '.join(allowed)}"
            raise Problem(405, "method_not_allowed", detail, headers={"allow": ", ".join(allowed)})
        if any(map(is_internal, channels)):
            raise Problem(400, "invalid_channel", "channels that begin with '$' are not for clients", field="channel")
        subject = self._subject(environ, "publish" if method == "POST" else "subscribe", channels)
        if method == "POST":
            position = self._hub.sync.publish(channels[0], _body_of(environ))
            return 200, [("Content-Type", "application/json")], json.dumps({"id": position}).encode()
        asked = [name_or_pattern(channel) for channel in channels]
        location = self._streams.location(asked, subject=subject, after=last_event_id(environ))
        return 307, [("Location", location), ("Cache-Control", "no-store")], b""

    def _subject(
        self, environ: Environ, action: Literal["subscribe", "publish"], channels: Sequence[str]
    ) -> str | None:
        if self._authorize is None:
            return None
        try:
            return self._authorize(environ, action, channels)
        except PermissionError as error:
            raise Problem(403, "denied", str(error) or f"you may not {action} here") from None


def _body_of(environ: Environ) -> bytes:
    announced = str(environ.get("CONTENT_LENGTH") or "0")
    length = int(announced) if announced.isdecimal() else 0
    if length > _MAX_BODY:
        raise Problem(413, "too_large", f"an event has at most {_MAX_BODY:,} bytes here", limit=_MAX_BODY)
    body: bytes = environ["wsgi.input"].read(length)
    return body


def _of_problem(problem: Problem) -> tuple[int, list[tuple[str, str]], bytes]:
    return problem.status, pairs(problem.headers.items()), problem.body()
