"""The server's application in one event loop, called with whatever requests a fuzzer makes of bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from newswire.server.app import create_app
from newswire.server.auth import new_token
from newswire.server.settings import Settings

SECRET: Final = "a secret of sixty-four bytes, which is as long as HS512 wants it to be"
HIDDEN: Final = b"what only bob may read"
PATIENCE: Final = 20.0


@dataclass
class Asked:
    """One request, as bytes.

    Attributes:
        method, path, query, headers: as a server has parsed them.
        body: its pieces.
    """

    method: str
    path: bytes
    query: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: Sequence[bytes] = ()


@dataclass
class Answered:
    """The answer.

    Attributes:
        status: 0 before the head.
        headers, body: as they were sent.
    """

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


class Application:
    """`create_app` with tokens, running; its log has one event that no request of a fuzzer may see."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        settings = Settings(
            log="memory://", jwt_secret=SECRET, anonymous=("public.>",), max_body=4096, max_batch=50, heartbeat=None
        )
        self._app = create_app(settings)
        self._life = self._app.router.lifespan_context(self._app)
        self._loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        await self._life.__aenter__()
        await self._app.state.service.hub.publish("bob.secret", HIDDEN)

    def close(self) -> None:
        """Stop it."""
        self._loop.run_until_complete(self._life.__aexit__(None, None, None))
        self._loop.close()

    def ask(self, request: Asked) -> Answered:
        """Send one request, and leave when a stream has begun."""
        return self._loop.run_until_complete(asyncio.wait_for(self._ask(request), PATIENCE))

    async def _ask(self, request: Asked) -> Answered:
        pieces, answered = list(request.body), Answered()
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
            if not request.body and not gone.is_set() and not hasattr(receive, "empty"):
                receive.empty = True  # type: ignore[attr-defined]
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answered.status, answered.headers = message["status"], list(message["headers"])
            else:
                answered.body += message.get("body", b"")
                if (b"content-type", b"text/event-stream; charset=utf-8") in answered.headers:
                    gone.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": unquote_to_bytes(request.path).decode("utf-8", "replace"),
            "raw_path": request.path,
            "root_path": "",
            "query_string": request.query,
            "headers": [(name.lower(), value) for name, value in request.headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        await self._app(scope, receive, send)
        return answered


def token(**more: Any) -> bytes:
    """An Authorization header of ada's."""
    claims = {"subject": "ada", "subscribe": ["ada.>"], "publish": ["ada.>"]} | more
    return f"Bearer {new_token(SECRET, **claims)}".encode()


def check(request: Asked, answered: Answered) -> None:
    """What holds for every answer: no fault of the server's, no injection, one shape of errors, no secret."""
    assert 200 <= answered.status < 500 or answered.status == 503, answered
    for name, value in answered.headers:
        assert not set(name + value) & set(b"\r\n\0"), answered
    assert HIDDEN not in answered.body, answered
    if answered.status >= 400:
        assert dict(answered.headers)[b"content-type"] == b"application/problem+json", answered
        if request.method != "HEAD":
            problem = json.loads(answered.body)
            assert problem["status"] == answered.status
            assert problem["code"]
            assert problem["detail"]
