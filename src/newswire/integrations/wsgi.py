"""Streams in WSGI applications: a response that holds one worker thread for as long as its stream is open.

WSGI has no other way. So give the server threads enough (`gunicorn --worker-class gthread --threads 200`), or let
readers read from `newswire serve` on the same log, which holds none, and publish from here. The hub runs in a thread of
its own; see `newswire.hub.lifecycle`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.integrations.exchange import Exchange, pairs

__all__ = ["WsgiStream"]


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
        body = self.open(environ.get("REQUEST_METHOD", "GET"))
        start_response(body.exchange.reason, pairs(body.exchange.headers))
        return body

    def open(self, method: str) -> Body:
        """Begin the stream; the head is known then."""

        async def begin() -> Exchange:
            exchange = Exchange(self._content, method=method, **self._more)
            await exchange.start()
            return exchange

        return Body(self._hub, self._hub.sync.call(begin))


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
