"""Requests to the origin, and what their answers mean. No credential is in what is raised here."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx2

from newswire.errors import LogError, LogUnavailable, LogUncertain
from newswire.redact import without_userinfo

# Below the server's own, so that no request meets a connection that is being closed.
_KEEP_SECONDS: Final = 2.0
# The request can't have come to the origin.
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)


class Origin:
    """The origin, for one event loop.

    Args:
        url: where it is; a password in it is the edge key, or a token.
        timeout: seconds to wait for a connection or an answer.

    Attributes:
        name: the URL as it may be shown.
        headers: what each request has.
        away: whether the last request found no connection.
    """

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        key = unquote(parts.password or parts.username or "")
        host = parts.netloc.rpartition("@")[2]
        self.url: str = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self.name: str = without_userinfo(self.url)
        self.headers: dict[str, str] = {"authorization": f"Bearer {key}"} if key else {}
        self.timeout = timeout
        self.away: bool = False
        self._client: httpx2.AsyncClient | None = None

    async def call(self, name: str, payload: object = None) -> Any:
        """Ask the origin.

        Raises:
            LogUncertain: it was sent, and there is no answer.
            LogUnavailable: the origin can't be reached, can't answer now, or refuses this edge.
            LogError: the origin refuses this request.
        """
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            headers = {"content-type": "application/json"}
            answer = await self._open().post(f"{self.url}/log/{name}", content=body, headers=headers)
        except _NOT_SENT as error:
            self.away = True
            raise LogUnavailable(f"the origin {self.name} can't be reached: {_text(error)}") from error
        except httpx2.HTTPError as error:
            raise LogUncertain(f"the origin {self.name} gave no answer: {_text(error)}") from error
        self.away = False
        if answer.status_code == 200:
            return answer.json()
        raise self._refused(answer.status_code, answer.text)

    def _refused(self, status: int, body: str) -> LogError:
        try:
            detail = str(json.loads(body)["detail"])
        except (ValueError, KeyError, TypeError):
            detail = body[:200]
        if status in (401, 403):
            return LogUnavailable(f"the origin {self.name} does not let this edge do it ({status}): {detail}")
        if status == 404:
            return LogUnavailable(f"{self.name} is no newswire server that edges can read ({status}): {detail}")
        if status >= 500:
            return LogUnavailable(f"the origin {self.name} can't serve this now ({status}): {detail}")
        return LogError(f"the origin {self.name} refuses it ({status}): {detail}")

    def _open(self) -> httpx2.AsyncClient:
        if self._client is None:
            limits = httpx2.Limits(keepalive_expiry=_KEEP_SECONDS)
            self._client = httpx2.AsyncClient(timeout=self.timeout, limits=limits, headers=self.headers)
        return self._client

    async def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
