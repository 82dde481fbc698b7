"""Adapters between a source and HTTP libraries, and the choice among them.

A source calls `pick` or `pick_async` with what its user gave as `client`. An adapter imports its library when it is
made, never earlier.
"""

from __future__ import annotations

from typing import Any

from newswire.client.transports.aiohttp import AiohttpTransport
from newswire.client.transports.base import AsyncTransport, Transport, library
from newswire.client.transports.httpx import AsyncHttpxTransport, HttpxTransport


def pick(client: Any) -> Transport:
    """Returns the adapter of a sync source, for the user's client, or for a client of our own if it is None.

    Raises:
        TypeError: the client is one for the event loop, or of an unknown kind.
        ImportError: there is no client, and httpx2 is not installed.
    """
    if client is None:
        return HttpxTransport()
    if library(client) in ("httpx2", "httpx"):
        if hasattr(client, "aclose"):
            raise TypeError("an async client needs AsyncEventSource; EventSource takes httpx2.Client or httpx.Client")
        return HttpxTransport(client)
    if hasattr(client, "open") and hasattr(client, "abort"):
        transport: Transport = client
        return transport
    raise TypeError(f"EventSource takes an httpx2.Client or httpx.Client, not {type(client).__name__}")


def pick_async(client: Any) -> AsyncTransport:
    """Returns the adapter of an async source.

    Raises:
        TypeError: the client is one for threads, or of an unknown kind.
        ImportError: there is no client, and httpx2 is not installed.
    """
    if client is None:
        return AsyncHttpxTransport()
    name = library(client)
    if name == "aiohttp":
        return AiohttpTransport(client)
    if name:
        if not hasattr(client, "aclose"):
            raise TypeError("a sync client needs EventSource; AsyncEventSource takes httpx2.AsyncClient or the like")
        return AsyncHttpxTransport(client)
    if hasattr(client, "open") and hasattr(client, "close"):
        transport: AsyncTransport = client
        return transport
    raise TypeError(
        f"AsyncEventSource takes httpx2.AsyncClient, httpx.AsyncClient or aiohttp.ClientSession, "
        f"not {type(client).__name__}"
    )
