"""Streams that don't keep their framework waiting: an ASGI middleware that takes them over.

A framework awaits its response, so on the ASGI path an idle stream holds all its frames: in Starlette's case those of
two error handlers, the router and the route, with their closures and the request, 5 KB and more. This middleware
stands around the whole application and offers its own frame: `EventSourceResponse` accepts it after it has sent the
head, and returns; the framework is done with the request, and the stream goes on here.

It only gets streams whose `send` and `receive` are those that the application was given, or come to them
(`newswire.delivery.fast.unwrap`). Where another middleware stands between, which may want to see each message, the
response goes on as before. On the direct path there is nothing to take over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from newswire.delivery.asgi import Message, Receive, Scope, Send
from newswire.delivery.fast.unwrap import unwrap
from newswire.delivery.server_stop import STREAM, Ending
from newswire.delivery.stream import PlainSink
from newswire.hub.subscription import Subscription


class StreamMiddleware:
    """Save memory on servers without the direct path: `app = StreamMiddleware(app)`, around everything else.

    A subscription's stream then outlives the call of the application, as it does on the direct path: dependencies with
    `yield` and whatever other middlewares do after a request end when the stream has begun, time limits around the
    application don't reach it, and what a server's `send` raises goes to the server and not to the application's
    handlers. What the application raises after it has handed a stream over is raised when the stream has ended.
    Responses with a `background`, and those made of iterables, stay where they are.

    Args:
        app: an ASGI application.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[Any]]) -> None:
        self.app = app
        self._streams: dict[Ending, None] = {}  # those that hear of the stop in no other way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
        if scope["type"] != "http":
            await self.app(scope, self._until_stop(receive) if scope["type"] == "lifespan" else receive, send)
            return
        offer = StreamOffer(self._streams, receive, send)
        try:
            await self.app(offer.within(scope), receive, send)
        except Exception:
            if offer.taken is not None:
                await offer.taken[0].stream(offer.taken[1], receive)
            raise
        except BaseException:  # cancelled, and no one goes on
            if offer.taken is not None:
                offer.taken[1].ended()
            raise
        if offer.taken is not None:
            await offer.taken[0].stream(offer.taken[1], receive)  # from here: no frame but this one and the sink's

    def _until_stop(self, receive: Receive) -> Receive:
        """A lifespan's `receive`. Servers that stop the application while streams are open end them by it."""

        async def watched() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                for stream in list(self._streams):
                    stream.end()
            return message

        return watched


class StreamOffer:
    """The extension `newswire.stream` as a response sees it.

    Attributes:
        streams: end with the application's lifespan; see `newswire.delivery.server_stop`.
        taken: the stream that was handed over; None while there is none.
    """

    __slots__ = ("_receive", "_send", "streams", "taken")

    def __init__(self, streams: dict[Ending, None], receive: Receive, send: Send) -> None:
        self.streams: dict[Ending, None] = streams
        self._receive = receive
        self._send = send
        self.taken: tuple[PlainSink, Subscription] | None = None

    def within(self, scope: Scope) -> Scope:
        """A scope that offers this: a copy, as ASGI demands; what a framework puts into it goes when that is done."""
        return {**scope, "extensions": {**(scope.get("extensions") or {}), STREAM: self}}

    def accept(self, sink: PlainSink, subscription: Subscription, receive: Receive, send: Send) -> bool:
        """Hand over a stream whose head was sent, and whose sink is attached.

        Args:
            sink: the stream's.
            subscription: what it is attached to.
            receive: the response's.
            send: the response's, that the head went to.

        Returns:
            whether it was taken; if not, it stays the caller's to stream.
        """
        if self.taken is not None or unwrap(send) is not self._send or unwrap(receive) is not self._receive:
            return False
        self.taken = sink, subscription
        return True
