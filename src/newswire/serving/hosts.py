"""Which addresses this server answers to: a list of allowed `Host`s, and how long a request's target may be.

A web page can have its own name lead to 127.0.0.1 (DNS rebinding). For the browser it then speaks to its own server,
with any method, and it reads the answers: `Host` and `Origin` are both `evil.example`, so that comparing them shows
nothing. What shows it is that this server has no such name. So each request, a GET too, has to name this server by an
address that only its operator gives it: `localhost`, 127.0.0.1, ::1, the address that it listens on or that the
connection came to, or one of `allowed_hosts`.

A server that listens on every address (0.0.0.0, `::`) also answers to any IP address, since it can't know all that lead
to it, through a container's ports for example. No page can have an IP address for a name, so rebinding gains nothing
there. Names have to be allowed one by one.

An ASGI middleware, the first that a request meets; `newswire serve` and `newswire relay` share it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from newswire.delivery.problem import Problem

# Bytes of a path and a query together, as many as of a whole head: room for all that a route can mean. It is checked
# before anything is parsed, which takes 100 ns a byte.
MAX_TARGET: Final = 64 * 2**10
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# RFC 9110, section 7.2: "Host = uri-host [ ":" port ]"; a final dot is the DNS's way to say that a name is whole.
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:/?#@\[\]]+?))\.?(?::[0-9]*)?")
_REMEMBERED: Final = 256


class Hosts:
    """Lets requests in whose `Host` names this server.

    Args:
        app: what answers them.
        allowed: host names and addresses, in lower case, without ports; `*.example.org` is all below, `*` every one.
        listens_on: the address that the server listens on.
        variable: of the environment, that sets `allowed`; for the refusal's text.
    """

    def __init__(self, app: ASGIApp, allowed: Iterable[str], listens_on: str, variable: str) -> None:
        self._app = app
        self._names = _LOCAL | {_canonical(name.strip("[]")) for name in allowed}
        self._below = tuple(name[1:] for name in allowed if name.startswith("*."))
        self._any_address = is_every_address(listens_on)
        if not self._any_address:
            self._names |= {_canonical(listens_on.lower())}
        self._any = "*" in self._names
        self._variable = variable
        self._known: set[bytes] = set()  # header values that were let in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, send)

    def refusal(self, scope: Scope) -> Problem | None:
        """What to answer a request that is not let in; None: it is let in."""
        size = len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string", b""))
        if size > MAX_TARGET:
            detail = f"the path and query have {size:,} bytes, and {MAX_TARGET:,} are the most"
            return Problem(414, "uri_too_long", detail, limit=MAX_TARGET)
        if not self._any:
            # A browser always sends one Host. Where there is none, it is no browser; of two, neither is trusted alone.
            for name, value in scope["headers"]:
                if name == b"host" and value not in self._known and not self._allows(value, scope):
                    return self._misdirected(value)
        return None

    def _allows(self, value: bytes, scope: Scope) -> bool:
        found = _HOST.fullmatch(value.decode("latin-1").lower())
        if found is None:
            return False
        host = _canonical(found[1] or found[2])
        if host in self._names or host.endswith(self._below) or (self._any_address and _is_address(host)):
            if len(self._known) < _REMEMBERED:
                self._known.add(value)
            return True
        server = scope.get("server")  # where the connection came to
        return server is not None and host == _canonical(str(server[0]).lower())

    def _misdirected(self, value: bytes) -> Problem:
        name = value[:100].decode("latin-1")
        host = name.rpartition(":")[0] if re.search(r":[0-9]*$", name) else name
        detail = (
            f"this server does not answer to the name {name!r}: if it is one of its names, allow it with "
            f"--allowed-host {host} (or {self._variable}; where it is mounted, Settings(allowed_hosts=[{host!r}]))"
        )
        return Problem(421, "misdirected", detail)


def is_every_address(host: str) -> bool:
    """Whether listening on `host` is listening on every address of the machine."""
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _canonical(host: str) -> str:
    """An IP address in its one form (`0:0::1` is `::1`); a name as it is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(getattr(address, "ipv4_mapped", None) or address)
