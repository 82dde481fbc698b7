"""Both served applications, on a log in memory."""

from __future__ import annotations

from starlette.applications import Starlette

from newswire.relay import Upstream
from newswire.relay.served import create_relay
from newswire.relay.settings import RelaySettings
from newswire.server import Settings, create_app


def made(kind: str) -> Starlette:
    """`serve`, or `relay`."""
    if kind == "serve":
        return create_app(Settings(log="memory://"))
    return create_relay(RelaySettings(log="memory://", upstreams=(Upstream("http://upstream.invalid"),)))
