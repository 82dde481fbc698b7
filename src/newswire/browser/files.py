"""The files of `newswire.browser` over ASGI, each with what lets a browser keep it.

A browser asks again each time and mostly gets a 304: after an update no page runs an old client against a new server.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from newswire.delivery.asgi import Receive, Scope, Send, send_answer
from newswire.delivery.problem import not_allowed

_GET: Final = ("GET", "HEAD")
_TYPES: Final = {
    "js": b"text/javascript; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "svg": b"image/svg+xml",
}


class BrowserFile:
    """The ASGI application that answers every path with one file; each value of `FILES` is one.

    `app.add_route("/newswire.js", newswire_js)` in Starlette and FastAPI; other frameworks mount it. Pages of any
    origin may load it, because it holds no user's data.

    Args:
        name: the file's name in this package.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{self.name} is served over HTTP only, not over {scope['type']}")
        content, tag = _read(self.name)
        known = next((value for name, value in scope["headers"] if name == b"if-none-match"), b"")
        headers = [
            (b"content-type", _TYPES[self.name.rpartition(".")[2]]),
            (b"etag", tag),
            (b"cache-control", b"no-cache"),
            (b"access-control-allow-origin", b"*"),
            (b"cross-origin-resource-policy", b"cross-origin"),
            (b"x-content-type-options", b"nosniff"),
        ]
        status, body = 200, content
        if scope["method"] not in _GET:
            await not_allowed(scope["method"], scope["path"], _GET)(scope, receive, send)
            return
        if tag in [one.strip().removeprefix(b"W/") for one in known.split(b",")]:
            status, body = 304, b""
        await send_answer(send, status, headers, body, head_only=scope["method"] == "HEAD")


newswire_js: BrowserFile = BrowserFile("newswire.js")
_LOOK: Final = ("newswire.css", "newswire.svg", "newswire-theme.js", "newswire-chart.js")
FILES: Final = {"/newswire.js": newswire_js} | {f"/{name}": BrowserFile(name) for name in _LOOK}
"""All files by the address at which newswire's pages expect them."""


@cache
def _read(name: str) -> tuple[bytes, bytes]:
    content = files("newswire.browser").joinpath(name).read_bytes()
    return content, b'"%b"' % hashlib.sha256(content).hexdigest()[:16].encode()
