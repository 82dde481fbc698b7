"""The keys that an identity provider publishes at a URL (a JWK Set), kept fresh.

They are fetched when the first token comes, again every five minutes, and at once when a token names a key that is not
among them: providers rotate keys. A stranger can name keys that never were, as often as it likes, so fetches that a
token causes have a budget. While the URL gives nothing, the keys that are known go on; a key that the provider took
away is gone with the next fetch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from newswire.delivery.problem import Problem, unavailable
from newswire.delivery.threads import in_thread
from newswire.redact import printable, without_userinfo
from newswire.server.auth.keys import Key, keys_of_set

logger: logging.Logger = logging.getLogger("newswire.server")

_FRESH: Final = 300.0
_TIMEOUT: Final = 5.0
_BURST: Final = 5.0  # fetches that unknown keys may cause at once …
_REFILL: Final = 10.0  # … and one more every so many seconds
_AFTER_FAILURE: Final = 5.0


class JwksUrl:
    """The keys at a URL. For one event loop at a time.

    Args:
        url: `https://…`, or `http://…` where the network is trusted.

    Raises:
        ValueError: it is no such URL.

    Attributes:
        url: as given.
        keys: those that are known; empty before the first fetch.
        fetched: counts the fetches that brought keys: a reason to forget what was verified with the old ones.
    """

    def __init__(self, url: str) -> None:
        from jwt import PyJWKClient

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it is no URL of http:// or https://")
        self._client = PyJWKClient(url, cache_jwk_set=False, timeout=_TIMEOUT)
        self.url = url
        self._shown = without_userinfo(url)
        self.keys: Sequence[Key] = ()
        self.fetched: int = 0
        self._due = 0.0  # when to fetch again, by the monotonic clock
        self._budget = _BURST
        self._filled = time.monotonic()
        self._fetching: asyncio.Task[None] | None = None

    async def refresh(self) -> Problem | None:
        """See that the keys are fresh.

        Returns:
            a 503, if there are none, and the URL gives none now.
        """
        if time.monotonic() >= self._due:
            await self._fetch()
        if self.keys:
            return None
        return unavailable("the keys that tokens are verified with can't be read now", "keys_unavailable")

    async def look_for(self, known: Callable[[Sequence[Key]], bool]) -> None:
        """Fetch once more if the budget allows it, unless `known` finds its key among those that came meanwhile."""
        now = time.monotonic()
        self._budget = min(_BURST, self._budget + (now - self._filled) / _REFILL)
        self._filled = now
        if self._budget < 1 or known(self.keys):
            return
        if self._fetching is None:
            self._budget -= 1
        await self._fetch()

    async def _fetch(self) -> None:
        """Fetch; those that want it at one time share one fetch, which goes on if one of them is cancelled."""
        if self._fetching is None or self._fetching.get_loop() is not asyncio.get_running_loop():
            self._fetching = asyncio.create_task(self._fetch_now(), name="newswire fetches keys")
        await asyncio.shield(self._fetching)

    async def _fetch_now(self) -> None:
        from jwt.exceptions import PyJWTError

        try:
            value: Any = await in_thread(self._client.fetch_data)
            self.keys = keys_of_set(value, secrets=False)
        except (PyJWTError, ValueError, OSError) as error:
            kept = f"; the {len(self.keys)} that are known go on" if self.keys else ""
            logger.warning("no keys came from %s: %s%s", self._shown, printable(without_userinfo(str(error))), kept)
            self._due = time.monotonic() + _AFTER_FAILURE
        else:
            self.fetched += 1
            self._due = time.monotonic() + _FRESH
        finally:
            self._fetching = None
