"""The adapter for a user's aiohttp session, for `AsyncEventSource`. It never closes the session.

The session's total timeout, 5 minutes by default, is not used, since it would end every stream; nor is its
`raise_for_status`, since the source itself knows what each status means. When a connection is reset, aiohttp drops
bytes that it has received and not handed out yet. Their events come again after the reconnect, if they have ids.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator
from typing import Any

from newswire.client.options import Opened, Timeouts
from newswire.client.request import Request
from newswire.client.transports.base import connect_failed, connection_lost, inflater, keep_alive, proxy_refused
from newswire.wire.gzip import Inflater, is_readable


class AiohttpConnection:
    """An `AsyncConnection` over an aiohttp response."""

    def __init__(self, aiohttp: Any, response: Any, inflater: Inflater | None) -> None:
        headers = tuple((k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in response.raw_headers)
        self.head: Opened = Opened(url=str(response.url), status=response.status, headers=headers)
        self._aiohttp = aiohttp
        self._response = response
        self._inflater = inflater
        self._pieces: Iterator[bytes] = iter(())

    async def read(self) -> bytes:
        try:
            while not (piece := next(self._pieces, b"")):
                data: bytes = await self._response.content.readany()
                if self._inflater is None or not data:
                    return data
                self._pieces = self._inflater.feed(data)
            return piece
        except (self._aiohttp.ClientError, OSError, ValueError) as error:
            raise connection_lost(self.head.url, error) from error

    async def close(self) -> None:
        self._response.close()


def _is_readable(request: Request) -> bool:
    """Whether the request asks for nothing but encodings that we decompress ourselves."""
    asked = ",".join(value.decode("latin-1") for name, value in request.headers if name == b"accept-encoding")
    return all(is_readable(each.partition(";")[0]) for each in asked.split(","))


class AiohttpTransport:
    """An `AsyncTransport` over `aiohttp.ClientSession`.

    Args:
        session: the user's session.
    """

    def __init__(self, session: Any) -> None:
        self._aiohttp: Any = importlib.import_module("aiohttp")
        self._session = session

    async def open(self, request: Request, timeouts: Timeouts) -> AiohttpConnection:
        aiohttp, url = self._aiohttp, importlib.import_module("yarl").URL
        headers = importlib.import_module("multidict").CIMultiDict(
            # aiohttp encodes these as UTF-8.
            (name.decode(), value.decode("utf-8", "surrogateescape"))
            for name, value in request.headers
        )
        timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=timeouts.connect, sock_read=None)
        by_library = not _is_readable(request)
        session = self._session
        proxy: dict[str, Any] = {}
        if request.foreign:
            # What the session adds to every request is meant for the origin that the user named. Proxies stay.
            jar = aiohttp.DummyCookieJar()
            proxy = self._proxy(url(request.url, encoded=True))
            session = aiohttp.ClientSession(connector=session.connector, connector_owner=False, cookie_jar=jar)
        try:
            response = await session.request(
                request.method,
                url(request.url, encoded=True),
                headers=headers,
                data=request.body,
                allow_redirects=False,
                auto_decompress=None if by_library else False,
                timeout=timeout,
                raise_for_status=False,
                **proxy,
            )
        except aiohttp.ClientHttpProxyError as error:
            raise proxy_refused(
                request.url, str(error.request_info.real_url), error.status
            ) from None  # it has the password
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise connect_failed(request.url, error) from error
        except (aiohttp.InvalidURL, asyncio.CancelledError):
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise connection_lost(request.url, error) from error
        finally:
            if session is not self._session:
                await session.close()
        if response.connection is not None and response.connection.transport is not None:
            keep_alive(response.connection.transport.get_extra_info("socket"))
        encoding = "" if by_library else response.headers.get("content-encoding", "")
        return AiohttpConnection(aiohttp, response, inflater(request, encoding))

    def _proxy(self, url: Any) -> dict[str, Any]:
        """The session's proxy for an address. Its `trust_env` would also bring passwords from a netrc file."""
        proxy = getattr(self._session, "_default_proxy", None)
        if proxy is not None:
            return {"proxy": proxy, "proxy_auth": getattr(self._session, "_default_proxy_auth", None)}
        if self._session.trust_env:
            try:
                found, auth = importlib.import_module("aiohttp.helpers").get_env_proxy_for_url(url)
            except LookupError:
                return {}
            return {"proxy": found, "proxy_auth": auth}
        return {}

    async def close(self) -> None:
        """Nothing to do: the user closes the session."""
