"""Streams in WSGI applications: sent elsewhere, or by a worker thread that each holds for as long as it is open.

WSGI has no third way. `WsgiApp` publishes here, and answers requests for streams with 307 and the address of the same
stream at a server that holds no thread for it; see `newswire.integrations.redirect`. `WsgiStream` streams here: give
the server threads enough (`gunicorn --worker-class gthread --threads 200`). The hub runs in a thread of its own; see
`newswire.hub.lifecycle`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias

from newswire.counted import counted
from newswire.delivery.bodies import content_length
from newswire.delivery.history import PageRequest, page
from newswire.delivery.problem import Problem, not_allowed, not_found, problem_of, title
from newswire.delivery.publish_headers import read_headers
from newswire.delivery.query import Query
from newswire.delivery.request import last_event_id
from newswire.delivery.ticket_request import MOST_BYTES, TicketRequest
from newswire.errors import Closed, NewswireError
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.exchange import Exchange, pairs
from newswire.integrations.redirect import StreamServer
from newswire.integrations.wsgi_stop import OPEN, WsgiServer, teller
from newswire.log.channels import check_pattern, is_internal, name_or_pattern
from newswire.validate import check_kind, check_list

__all__ = ["Authorize", "StreamServer", "WsgiApp", "WsgiStream"]

Environ: TypeAlias = dict[str, Any]
Answer: TypeAlias = tuple[int, list[tuple[str, str]], bytes]
StartResponse: TypeAlias = Callable[..., object]
Authorize: TypeAlias = Callable[[Environ, Literal["subscribe", "publish"], Sequence[str]], str | None]
"""Returns the user of a request that may do this with all of these channels, or None; raises `PermissionError`."""

_CHANNEL: Final = "/channels/"
_MAX_BODY: Final = 2**20
_ALONE: Final = (
    "This server gives each of its processes one thread, so an open stream keeps all other requests of its process "
    "waiting. Give it threads (gunicorn --worker-class gthread --threads 200), or let browsers read from `newswire "
    "serve` on the same log. This warning comes once in a process."
)
# The hub was closed while a stream was open, or the process ends: the stream has said goodbye, and is over.
_STOPPED: Final = (Closed, CancelledError)
_MOST: Final = 1000  # parameters of a query
_CHANNELS: Final = 100  # of a ticket, as on `newswire serve`
# What the server's streams take, which is passed on to them.
_PASSED: Final = ("from", "envelope", "live", "max_rate", "coalesce", "presence", "member", "state")
_HEADERS: Final = (
    ("CONTENT_TYPE", b"content-type"),
    ("CONTENT_LENGTH", b"content-length"),
    ("HTTP_CONTENT_ENCODING", b"content-encoding"),
    ("HTTP_IDEMPOTENCY_KEY", b"idempotency-key"),
    ("HTTP_PREFER", b"prefer"),
)


logger: logging.Logger = logging.getLogger("newswire.delivery")
_warned = False


def warn_of_one_thread(environ: Environ) -> None:
    """Log a warning, once in a process, if the server has no thread for other requests than a stream's."""
    global _warned
    server = environ.get("SERVER_SOFTWARE")  # the test clients of frameworks name none
    if _warned or not server or environ.get("wsgi.multithread", True):
        return
    if not server.startswith("gevent/"):  # its greenlets are no threads to it
        _warned = True
        logger.warning(_ALONE)


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
        check_kind("hub", hub, Hub)
        self._hub = hub
        self._content = content
        self._more: dict[str, Any] = {"options": options, "status": status, "headers": headers}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Answer one request; see PEP 3333."""
        warn_of_one_thread(environ)
        body = self.open(environ.get("REQUEST_METHOD", "GET"), environ.get("HTTP_ACCEPT_ENCODING"))
        start_response(body.exchange.reason, pairs(body.exchange.headers))
        return body

    def open(self, method: str, accept_encoding: str | None = None) -> WsgiBody:
        """Begin the stream; the head is known then. Both arguments are the request's."""

        found = teller()

        async def begin() -> tuple[Exchange, WsgiServer]:
            server = WsgiServer.of(found)
            more = {**self._more, "accept_encoding": accept_encoding, "server": server}
            exchange = Exchange(self._content, method=method, **more)
            await exchange.start()
            server.watch()
            return exchange, server

        return WsgiBody(self._hub, *self._hub.sync.call(begin))


class WsgiBody:
    """The chunks of a stream, drawn by a thread.

    Attributes:
        exchange: whose chunks these are.
    """

    def __init__(self, hub: Hub, exchange: Exchange, server: WsgiServer) -> None:
        self._hub = hub
        self.exchange = exchange
        OPEN.add(self, server)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = self._hub.sync.call(self.exchange.next)
        except _STOPPED:
            chunk = None
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Called by the server when the client has left, or has everything."""
        OPEN.remove(self)
        with suppress(*_STOPPED):
            self._hub.sync.call(self.exchange.aclose)


class WsgiApp:
    """A WSGI application with the routes of a hub, for a WSGI framework to mount at a prefix.

    `POST /channels/NAME` publishes its body as one event, `?event=` names its type, and an `Idempotency-Key` makes it
    safe to send again. `GET /channels/NAME` and `GET /stream?channel=A&channel=B` answer 307: the stream is at
    `streams`, with the parameters of the request (`from=earliest` …). `GET /channels/NAME/events` is the history, and
    `POST /tickets` makes a ticket for a stream there, both as on `newswire serve`.

    Args:
        hub: the hub that publishes. It opens itself, in a thread of its own.
        streams: the server that streams, on the same log.
        authorize: decides about each request; None: everyone may do everything.
        parameters: names of parameters of the query that `authorize` reads. Others that are not the hub's are refused.
    """

    def __init__(
        self,
        hub: Hub[Any],
        streams: StreamServer,
        *,
        authorize: Authorize | None = None,
        parameters: Collection[str] = (),
    ) -> None:
        check_kind("hub", hub, Hub)
        check_kind("streams", streams, StreamServer)
        check_list("parameters", parameters)
        self._hub = hub
        self._streams = streams
        self._authorize = authorize
        self._parameters = tuple(parameters)

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

    def _answer(self, environ: Environ) -> Answer:
        path = _path_of(environ)
        query = Query(environ.get("QUERY_STRING", "").encode("latin-1", "replace"), _MOST)
        if path == "/tickets":
            _check_method(environ, path, "POST")
            return self._ticket(environ, query)
        of_channel = path.removeprefix(_CHANNEL) if path.startswith(_CHANNEL) else ""
        name, _, rest = of_channel.partition("/")
        if name and rest == "events":
            _check_method(environ, path, "GET", "HEAD")
            return self._history(environ, name, query)
        if path == "/stream":
            channels = query.all("channel")
            if not channels:
                raise Problem(400, "invalid_query", "name at least one channel: /stream?channel=news", field="channel")
            _check_method(environ, path, "GET", "HEAD")
        elif of_channel:
            channels = [of_channel]
            _check_method(environ, path, "GET", "HEAD", "POST")
        else:
            raise not_found(f"there is nothing at {path[:200]}: streams are at /channels/NAME")
        _check_names(channels)
        if environ["REQUEST_METHOD"] == "POST":
            return self._publish(environ, channels[0], query)
        query.only(*_PASSED, *(("channel",) if path == "/stream" else ()), also=self._parameters, cursor=True)
        more = [(name, value) for name in _PASSED if (value := query.one(name)) is not None]
        subject = self._subject(environ, "subscribe", channels)
        asked = [name_or_pattern(channel) for channel in channels]
        location = self._streams.location(asked, subject=subject, after=last_event_id(environ), more=more)
        return 307, [("Location", location), ("Cache-Control", "no-store")], b""

    def _history(self, environ: Environ, channel: str, query: Query) -> Answer:
        asked = PageRequest.of(query, self._parameters)
        _check_names([check_pattern(channel)])
        self._subject(environ, "subscribe", [channel])

        async def read() -> dict[str, object]:
            await self._hub.runtime()
            return await page(self._hub, channel, asked)

        return _json(200, self._hub.sync.call(read))

    def _ticket(self, environ: Environ, query: Query) -> Answer:
        query.only(also=self._parameters)
        length = content_length(str(environ.get("CONTENT_LENGTH") or "").encode("latin-1", "replace"))
        asked = TicketRequest.of(_body_of(environ, length, MOST_BYTES), (), _CHANNELS)
        _check_names(asked.channels)
        subject = self._subject(environ, "subscribe", asked.channels)
        if asked.subject not in (None, subject):
            raise Problem(403, "denied", "you may not make tickets for others", field="subject")
        made = self._streams.ticket(asked.channels, subject=subject, first_use=asked.first_use)
        if made is None:
            raise not_found("the server of the streams needs no credentials, so there are no tickets")
        return _json(201, made)

    def _publish(self, environ: Environ, channel: str, query: Query) -> Answer:
        query.only("event", also=self._parameters)
        event = query.one("event")
        self._subject(environ, "publish", [channel])
        headers = [(name, str(environ[key]).encode("latin-1", "replace")) for key, name in _HEADERS if environ.get(key)]
        is_batch, length, key, wait = read_headers(headers)
        if is_batch:
            detail = "a batch is for hub.sync.publish_many, or for newswire serve: here one body is one event"
            raise Problem(415, "unsupported_type", detail)
        body = _body_of(environ, length, _MAX_BODY)
        name = "message" if event is None else event
        position = self._hub.sync.publish(channel, body, event=name, idempotency_key=key, wait=wait)
        return _json(200, {"id": position})

    def _subject(
        self, environ: Environ, action: Literal["subscribe", "publish"], channels: Sequence[str]
    ) -> str | None:
        if self._authorize is None:
            return None
        try:
            return self._authorize(environ, action, channels)
        except PermissionError as error:
            raise Problem(403, "denied", str(error) or f"you may not {action} here") from None


def _path_of(environ: Environ) -> str:
    try:
        return str(environ.get("PATH_INFO", "")).encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        detail = "the channel is not UTF-8: percent-encode its UTF-8 bytes, as encodeURIComponent does"
        raise Problem(400, "not_utf8", detail, field="channel") from None


def _check_method(environ: Environ, path: str, *allowed: str) -> None:
    method = environ["REQUEST_METHOD"]
    if method not in allowed:
        raise not_allowed(method, path, allowed)


def _check_names(channels: Iterable[str]) -> None:
    if any(map(is_internal, channels)):
        raise Problem(400, "invalid_channel", "channels that begin with '$' are not for clients", field="channel")


def _json(status: int, value: object) -> Answer:
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")], body


def _body_of(environ: Environ, length: int | None, most: int) -> bytes:
    """The body of a request.

    Args:
        environ: the request.
        length: of the body, as its headers say; None: they don't.
        most: the most bytes.

    Raises:
        Problem: it is too large, ends too early, or no one knows where it ends. A part of it is no event.
    """
    if length is None:
        if environ.get("CONTENT_LENGTH"):
            raise Problem(400, "invalid_request", "Content-Length is no number. Nothing was stored")
        # A server that ends `wsgi.input` where the body ends says so. Others leave the pieces of a body to us.
        if not environ.get("wsgi.input_terminated"):
            if environ.get("HTTP_TRANSFER_ENCODING"):
                raise Problem(411, "length_required", "this server needs a Content-Length: send the body in one piece")
            return b""
        length = most + 1
    elif length > most:
        raise _too_large(most)
    read, body = environ["wsgi.input"].read, bytearray()
    while len(body) < length and (piece := read(length - len(body))):
        body += piece
    if len(body) > most:
        raise _too_large(most)
    if environ.get("CONTENT_LENGTH") and len(body) < length:
        detail = f"the body ended after {len(body):,} of {length:,} bytes. Nothing was stored"
        raise Problem(400, "client_gone", detail)
    return bytes(body)


def _too_large(most: int) -> Problem:
    what = "an event" if most == _MAX_BODY else "the body"
    return Problem(413, "too_large", f"{what} has at most {counted(most, 'byte')} here", limit=most)


def _of_problem(problem: Problem) -> Answer:
    return problem.status, pairs(problem.headers.items()), problem.body()
