"""The keys that an identity provider publishes at a URL (a JWK Set), kept fresh.

They are fetched when the first token comes, again every five minutes, and at once when a token names a key that is not
among them, or names none and no key fits: providers rotate keys. A stranger can name keys that never were, as often as
it likes, so fetches that a token causes have a budget. While the URL gives nothing, or gives it slowly, the keys that
are known go on; a key that the provider took away is gone with the next fetch. What comes is bounded in bytes and in
seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from newswire.delivery.problem import Problem, unavailable
from newswire.delivery.threads import in_thread
from newswire.redact import printable, without_userinfo
from newswire.server.auth.keys import Key, keys_of_set
from newswire.validate import check_kind

logger: logging.Logger = logging.getLogger("newswire.server")

_FRESH: Final = 300.0
_TIMEOUT: Final = 5.0  # for each wait, and for the body as a whole
_PATIENCE: Final = 0.5  # seconds that a request waits for fresh keys while it has others
_MOST_BYTES: Final = 512 * 2**10  # hundreds of keys
_BURST: Final = 5.0  # fetches that unknown keys may cause at once …
_REFILL: Final = 10.0  # … and one more every so many seconds
_AFTER_FAILURE: Final = 5.0
_MOST_LEFT: Final = 3  # reads that were given up and have not ended: a head that comes byte by byte may take days


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, and none from https to http: there anybody on the way can publish keys."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            fp.close()  # an error that is not urllib's own leaves the connection open
            raise ValueError(f"it redirects to {newurl[:200]}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


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
        check_kind("url", url, str)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it is no URL of http:// or https://")
        self.url = url
        self._shown = without_userinfo(url)
        self.keys: Sequence[Key] = ()
        self.fetched: int = 0
        self._due = 0.0  # when to fetch again, by the monotonic clock
        self._budget = _BURST
        self._filled = time.monotonic()
        self._fetching: asyncio.Task[None] | None = None
        self._left = 0  # reads in threads that have not ended

    async def refresh(self) -> Problem | None:
        """See that the keys are fresh.

        Returns:
            a 503, if there are none, and the URL gives none now.
        """
        if time.monotonic() >= self._due and not (self.keys and self._is_fetching()):
            fetching = self._fetch()
            if self.keys:
                await asyncio.wait([fetching], timeout=_PATIENCE)
            else:
                await asyncio.shield(fetching)
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
        if not self._is_fetching():
            self._budget -= 1
        await asyncio.shield(self._fetch())

    def _is_fetching(self) -> bool:
        return self._fetching is not None and self._fetching.get_loop() is asyncio.get_running_loop()

    def _fetch(self) -> asyncio.Task[None]:
        """Fetch; those that want it at one time share one fetch, which goes on if one of them is cancelled."""
        if self._fetching is None or not self._is_fetching():
            self._fetching = asyncio.create_task(self._fetch_now(), name="newswire fetches keys")
        return self._fetching

    async def _fetch_now(self) -> None:
        try:
            if self._left >= _MOST_LEFT:
                raise ValueError("it still answers earlier requests")
            async with asyncio.timeout(2 * _TIMEOUT):  # a head may come byte by byte
                self.keys = keys_of_set(await in_thread(self._read), secrets=False)
        except (ValueError, OSError, HTTPException, RecursionError) as error:
            kept = f"; the {len(self.keys)} that are known go on" if self.keys else ""
            why = printable(without_userinfo(str(error) or "it is too slow"))
            logger.warning("no keys came from %s: %s%s", self._shown, why, kept)
            self._due = time.monotonic() + _AFTER_FAILURE
        else:
            self.fetched += 1
            self._due = time.monotonic() + _FRESH
        finally:
            self._fetching = None

    def _read(self) -> Any:
        """Read the URL, in a thread.

        Raises:
            ValueError, OSError, HTTPException, RecursionError: it gives no JSON, too much of it, or too slowly.
        """
        self._left += 1
        try:
            return self._read_now()
        finally:
            self._left -= 1

    def _read_now(self) -> Any:
        request = Request(self.url, headers={"Accept": "application/json", "User-Agent": "newswire"})
        body = bytearray()
        with build_opener(_Redirects).open(request, timeout=_TIMEOUT) as response:
            until = time.monotonic() + _TIMEOUT
            while piece := response.read1(64 * 2**10):
                body += piece
                if len(body) > _MOST_BYTES:
                    raise ValueError(f"the answer has more than {_MOST_BYTES:,} bytes")
                if time.monotonic() > until:
                    raise ValueError(f"the answer takes longer than {_TIMEOUT:g} s")
        try:
            return json.loads(body)
        except ValueError:
            raise ValueError("the answer is no JSON") from None
