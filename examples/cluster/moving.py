"""Requests to whichever of several servers answers: what a load balancer does for a publisher."""

from __future__ import annotations

from collections.abc import Sequence

import httpx2


class Moving(httpx2.AsyncBaseTransport):
    """Sends requests to one server; after a failure, the next ones to the next server.

    The failure is raised: whether the request was served is for its sender to find out.

    Args:
        ports: of the servers, on the request's host.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._at = 0
        self._inner = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        request.url = request.url.copy_with(port=self._ports[self._at])
        request.headers["host"] = request.url.netloc.decode("ascii")
        try:
            answer = await self._inner.handle_async_request(request)
        except httpx2.TransportError:
            self._move()
            raise
        if answer.status_code >= 500:
            self._move()
        return answer

    def _move(self) -> None:
        self._at = (self._at + 1) % len(self._ports)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()
