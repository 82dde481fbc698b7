"""What a client asks a relay for, read from its request: the path below the relay's own, its key, its body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

from newswire.counted import counted
from newswire.delivery.asgi import Receive, Scope
from newswire.delivery.bodies import Bodies, ClientGone
from newswire.delivery.problem import Problem
from newswire.errors import LimitExceeded
from newswire.relay.headers import Headers, value_of
from newswire.relay.responses import refusal, refusal_of

_MAX_KEY: Final = 255


class RelayRequest:
    """One request.

    Attributes:
        method: of the request.
        path: below where the relay is mounted, decoded.
        raw_path: the same, as it came.
        query: as it came.
        headers: with names in lower case.
        scheme: `http` or `https`.
        root: the path at which the relay is mounted, percent-encoded.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        root = str(scope.get("root_path") or "").rstrip("/")
        path = str(scope["path"])
        self.method: str = str(scope["method"])
        self.scheme: str = str(scope.get("scheme") or "http")
        self.path: str = path.removeprefix(root) if path.startswith(f"{root}/") else path
        self.root: str = quote(root)
        raw: bytes = scope.get("raw_path") or quote(path).encode()
        begins = self.root.encode()
        self.raw_path: bytes = raw.removeprefix(begins) if begins and raw.startswith(begins + b"/") else raw
        self.query: bytes = scope.get("query_string") or b""
        self.headers: Headers = [(name.lower(), value) for name, value in scope["headers"]]
        self._receive = receive

    def header(self, name: bytes) -> str | None:
        """The first value of a header."""
        return value_of(self.headers, name)

    @property
    def has_body(self) -> bool:
        """Whether a body comes with it."""
        return self.header(b"transfer-encoding") is not None or self.header(b"content-length") not in (None, "0")

    def key(self) -> str | None:
        """The `Idempotency-Key`.

        Raises:
            RelayRefused: it is too long, or there are two that differ.
        """
        keys = {value.decode("latin-1").strip() for name, value in self.headers if name == b"idempotency-key"}
        if len(keys) > 1:
            raise refusal(400, "invalid_idempotency_key", "a request has one Idempotency-Key, and this has several")
        key = keys.pop() if keys else ""
        if len(key) > _MAX_KEY:
            raise refusal(400, "invalid_idempotency_key", f"an Idempotency-Key has at most {_MAX_KEY} characters")
        return key or None

    async def body(self, bodies: Bodies) -> bytes:
        """The whole body.

        Raises:
            RelayRefused: it is too large, it did not come in time, or unfinished requests hold too much.
            ClientGone: the client has left.
        """
        try:
            return await bodies.read(self._receive, self.header(b"content-length"))
        except LimitExceeded as error:
            detail = f"a request for a completion has at most {counted(error.limit, 'byte')} here"
            raise refusal(413, "too_large", detail, limit=error.limit) from None
        except Problem as problem:
            raise refusal_of(problem) from None

    async def chunks(self, seconds: float | None = None) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            TimeoutError: the client stopped for so many seconds.
            ClientGone: the client has left.
        """
        more = True
        while more:
            async with asyncio.timeout(seconds):
                message: Any = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if message.get("body"):
                yield message["body"]
            more = message.get("more_body", False)
