"""One file over ASGI: `newswire.js`, with what lets a browser keep it.

A browser asks again each time and mostly gets a 304: after an update no page runs an old client against a new server.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from newswire.delivery.asgi import Receive, Scope, Send

_GET = ("GET", "HEAD")


class BrowserScript:
    """The ASGI application that answers every path with `newswire.js`; `newswire_js` is one.

    `app.add_route("/newswire.js", newswire_js)` in Starlette and FastAPI; other frameworks mount it. Pages of any
    origin may import it: it holds nothing that is anybody's.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"newswire.js is served over HTTP only, not over {scope['type']}")
        content, tag = _read()
        known = next((value for name, value in scope["headers"] if name == b"if-none-match"), b"")
        headers = [
            (b"content-type", b"text/javascript; charset=utf-8"),
            (b"etag", tag),
            (b"cache-control", b"no-cache"),
            (b"access-control-allow-origin", b"*"),
            (b"cross-origin-resource-policy", b"cross-origin"),
            (b"x-content-type-options", b"nosniff"),
        ]
        status, body = 200, content
        if scope["method"] not in _GET:
            status, body, headers = 405, b"", [(b"allow", b"GET, HEAD")]
        elif tag in [one.strip().removeprefix(b"W/") for one in known.split(b",")]:
            status, body = 304, b""
        if status != 304:
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


newswire_js = BrowserScript()


@cache
def _read() -> tuple[bytes, bytes]:
    content = files("newswire.browser").joinpath("newswire.js").read_bytes()
    return content, b'"%b"' % hashlib.sha256(content).hexdigest()[:16].encode()
