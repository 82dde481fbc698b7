"""Requests to the origin, and what their answers mean. No credential is in what is raised here.

An `OriginWriter` publishes there: what comes while one request is on its way goes with the next. Each batch has a
token, its publisher's or one of our own. So a request whose answer was lost goes out again, and what it has is stored
once. What may be stored and can't be cleared up in time is `LogUncertain`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx2

from newswire.errors import LogError, LogUnavailable, LogUncertain
from newswire.log import form
from newswire.log.engine import Batch, Known, OnDone, Outcome, weigh
from newswire.log.failures import as_log_error
from newswire.log.retry import Retry
from newswire.reason import reason
from newswire.redact import without_userinfo

T = TypeVar("T")

# Below the server's own, so that no request meets a connection that is being closed.
_KEEP_SECONDS: Final = 2.0
# The request can't have come to the origin.
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)


class OriginAway(LogUnavailable):
    """The origin can't be reached, gives no answer, or can't answer now: it may be there in a moment."""


class OriginSilent(LogUncertain):
    """The origin gave no answer to what was sent."""


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

    async def call(self, name: str, read: Callable[[Any], T], payload: object = None) -> T:
        """Ask the origin.

        Args:
            name: of the call.
            read: makes what is returned of the JSON of the answer.
            payload: what the call is about.

        Raises:
            OriginSilent: it was sent, and there is no answer.
            LogUncertain: the answer is none that a newswire server gives.
            OriginAway: the origin can't be reached, or can't answer now.
            LogUnavailable: it refuses this edge.
            LogError: the origin refuses this request.
        """
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            headers = {"content-type": "application/json"}
            answer = await self._open().post(f"{self.url}/log/{name}", content=body, headers=headers)
        except _NOT_SENT as error:
            self.away = True
            raise OriginAway(f"the origin {self.name} can't be reached: {reason(error)}") from error
        except httpx2.ProxyError as error:  # nothing was sent
            self.away = True
            kind = LogUnavailable if str(error).startswith("4") else OriginAway
            raise kind(f"a proxy refuses to connect to the origin {self.name}: {error}") from error
        except httpx2.HTTPError as error:
            raise OriginSilent(f"the origin {self.name} gave no answer: {reason(error)}") from error
        self.away = False
        if answer.status_code == 200:
            try:
                return read(answer.json())
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
                message = f"{self.name} does not answer as a newswire server does: check the address of the log"
                raise LogUncertain(message) from error
        raise self._refused(answer.status_code, answer.text)

    def _refused(self, status: int, body: str) -> LogError:
        try:
            detail = str(json.loads(body)["detail"])
        except (ValueError, KeyError, TypeError, RecursionError):
            detail = body[:200]
        if status == 407:
            return LogUnavailable(f"a proxy before the origin {self.name} wants a user and a password ({status})")
        if status in (401, 403):
            return LogUnavailable(f"the origin {self.name} refuses this edge ({status}): {detail}")
        if status == 404:
            return LogUnavailable(f"{self.name} is no newswire server that edges can read ({status}): {detail}")
        if status >= 500:
            return OriginAway(f"the origin {self.name} can't serve this now ({status}): {detail}")
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


_EVENTS: Final = 2000  # in one request …
_BYTES: Final = 512 * 2**10  # … unless a single submission is larger
_PATIENCE: Final = 3  # times the timeout, in which a request whose answer was lost goes out again

_Submitted: TypeAlias = tuple[Sequence[Batch], list[str], OnDone, str]


class OriginWriter:
    """Stores batches at the origin, one request at a time.

    Args:
        origin: where.
        epoch: gives the epoch that conditions are about.
    """

    def __init__(self, origin: Origin, epoch: Callable[[], str]) -> None:
        self._origin = origin
        self._epoch = epoch
        self._queue: deque[_Submitted] = deque()
        self._task: asyncio.Task[None] | None = None

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        if self._task is not None and self._origin.away:  # one attempt at a time, which the others don't wait for
            on_done([self._away()] * len(batches), "")
            return
        tokens = [batch.token or secrets.token_hex(16) for batch in batches]
        self._queue.append((batches, tokens, on_done, self._epoch()))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="newswire edge writer")

    def _away(self) -> LogUnavailable:
        return LogUnavailable(f"the origin {self._origin.name} can't be reached now")

    def _fail_queue(self, error: LogUnavailable) -> None:
        while self._queue:
            batches, _, on_done, _ = self._queue.popleft()
            on_done([error] * len(batches), "")

    async def close(self) -> None:
        """Store what was submitted."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._queue:
                group = self._next_group()
                try:
                    outcomes, epoch = await self._store(group)
                except Exception as error:  # the outermost frame of a task: those who submitted get it
                    outcomes, epoch = [as_log_error(error)] * sum(len(batches) for batches, *_ in group), ""
                at = 0
                for batches, _, on_done, _ in group:
                    on_done(outcomes[at : at + len(batches)], epoch)
                    at += len(batches)
        finally:
            self._task = None
            self._fail_queue(LogUnavailable("the log gave up"))  # cancelled from outside

    def _next_group(self) -> list[_Submitted]:
        """The next submissions for one request: of one epoch."""
        queue = self._queue
        group = [queue.popleft()]
        events, size = weigh(group[0][0])
        while queue and queue[0][3] == group[0][3]:
            more, larger = weigh(queue[0][0])
            events, size = events + more, size + larger
            if events > _EVENTS or size > _BYTES:
                break
            group.append(queue.popleft())
        return group

    @staticmethod
    def _outcomes(group: Sequence[_Submitted], found: Sequence[object]) -> list[Outcome]:
        batches = [batch for some, *_ in group for batch in some]
        outcomes = [form.to_outcome(each) for each in found]
        # A token of our own that is known: an earlier attempt, whose answer was lost, has stored the batch.
        return [
            int(outcome) if isinstance(outcome, Known) and batch.token is None else outcome
            for batch, outcome in zip(batches, outcomes, strict=True)
        ]

    def _read(self, group: Sequence[_Submitted], answer: Any) -> tuple[list[Outcome], str]:
        return self._outcomes(group, answer["outcomes"]), str(answer["epoch"])

    async def _store(self, group: Sequence[_Submitted]) -> tuple[list[Outcome], str]:
        batches = [
            form.of_batch(batch, token)
            for some, tokens, _, _ in group
            for batch, token in zip(some, tokens, strict=True)
        ]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE * self._origin.timeout
        retry = Retry(0.05, 1.0)
        lost: LogError | None = None  # an answer was, so it may be stored
        while True:
            try:
                asked = {"batches": batches, "epoch": group[0][3]}
                return await self._origin.call("append", partial(self._read, group), asked)
            except LogUncertain as error:
                if lost is not None:  # the second time in a row
                    self._origin.away = True
                    self._fail_queue(self._away())
                lost = error
            except LogUnavailable:
                if lost is None:
                    raise
                self._fail_queue(self._away())
            if loop.time() > deadline:
                hint = "the batch may be stored: publish it again under the same token, or look"
                raise LogUncertain(f"{lost}; {hint}") from lost
            await asyncio.sleep(retry.next())
