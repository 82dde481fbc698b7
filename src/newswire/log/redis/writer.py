"""Group commit: what comes while the server stores one group is the next group, stored by one script call.

A call has a number. If its answer is lost it is sent again under the same number, and the script gives the outcome that
it had: so a batch is never there twice. A call that the server may have got and that can't be repaired in time has the
outcome `LogUncertain`; one that was never sent, `LogUnavailable`, at once.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from newswire.errors import LogCorrupt, LogError, LogUnavailable, LogUncertain
from newswire.log.engine import TOKEN_SECONDS, Batch, Entry, Limits, OnDone, Outcome, outcome_of
from newswire.log.redis.link import Link, LinkLost, Server
from newswire.log.redis.scripts import APPEND, CHANNEL, KEYS, TOKEN, WRITER

# What was submitted together: batches, whom to tell, and the epoch that their conditions are about.
_Submitted: TypeAlias = tuple[Sequence[Batch], OnDone, str]

_TOKEN_MS: Final = int(TOKEN_SECONDS * 1000)
_ATTEMPTS: Final = 100  # when the log begins one life after the other
_PATIENCE: Final = 3  # times the timeout, in which a call whose answer was lost is tried again
_DONE, _OTHER_EPOCH, _BROKEN, _LATE = range(4)


class Writer:
    """Stores batches.

    Args:
        on_stored: called with the newest offset before new entries, and a function that makes these.

    Attributes:
        last: when it last had an answer, in the event loop's time.
    """

    def __init__(
        self,
        server: Server,
        limits: Limits,
        clock: Callable[[], float],
        on_stored: Callable[[int, Callable[[], list[Entry]], int], object],
    ) -> None:
        self.last = 0.0
        self._server = server
        self._limits = limits
        self._clock = clock
        self._on_stored = on_stored
        self._link = Link(server)
        self._key = WRITER + secrets.token_hex(8)
        self._number = itertools.count(1)
        self._queue: deque[_Submitted] = deque()
        self._task: asyncio.Task[None] | None = None
        self._answered: asyncio.Future[None] | None = None
        self._unseen: tuple[str, int, Callable[[], list[Entry]], int] | None = None  # epoch, and what `_on_stored` gets
        self._untold: tuple[list[_Submitted], Sequence[Outcome], str] | None = None  # see `_tell`

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """See `Engine.submit`."""
        if self._task is not None and self._server.away:  # one attempt at a time, which the others don't wait for
            error = LogUnavailable(f"the server {self._server.name} can't be reached now")
            on_done([error] * len(batches), "")
            return
        self._queue.append((batches, on_done, self._server.epoch))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="newswire redis writer")

    async def idle(self) -> None:
        """Wait until the call that the server is at now has its answer, if there is one."""
        if self._task is not None:
            if self._answered is None:
                self._answered = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._answered)

    async def close(self) -> None:
        """Store what was submitted, then close the connection."""
        while self._task is not None:
            await asyncio.wait([self._task])
        await self._link.close()

    async def _run(self) -> None:
        try:
            while self._queue:
                group = self._next_group()
                try:
                    outcomes, epoch = await self._store(group)
                except Exception as error:  # the outermost frame of a task: those who submitted get it
                    self._tell()
                    failed = error if isinstance(error, LogError) else LogError(f"the log failed: {error!r}")
                    outcomes, epoch = [failed] * sum(len(batches) for batches, _, _ in group), ""
                self._untold = group, outcomes, epoch
                if not self._queue:
                    self._tell()
        finally:
            self._task = None
            self._tell()
            self._release()
            self._fail_queue(LogUnavailable("the log gave up"))  # cancelled from outside

    def _tell(self) -> None:
        """Tell of the outcomes of the group before: the hub's work for it is done while the server stores the next."""
        untold, self._untold = self._untold, None
        if untold is None:
            return
        group, outcomes, epoch = untold
        unseen, self._unseen = self._unseen, None
        if unseen is not None and unseen[0] == self._server.epoch:
            self._on_stored(*unseen[1:])
        self._release()
        at = 0
        for batches, on_done, _ in group:
            on_done(outcomes[at : at + len(batches)], epoch)
            at += len(batches)

    def _fail_queue(self, error: LogUnavailable) -> None:
        while self._queue:
            batches, on_done, _ = self._queue.popleft()
            on_done([error] * len(batches), "")

    def _release(self) -> None:
        answered, self._answered = self._answered, None
        if answered is not None and not answered.done():
            answered.set_result(None)

    def _next_group(self) -> list[_Submitted]:
        queue, limits = self._queue, self._limits
        group = [queue.popleft()]
        events, size = _weight(group[0])
        while queue:
            more, larger = _weight(queue[0])
            events, size = events + more, size + larger
            if events > limits.group_events or size > limits.group_bytes:
                break
            group.append(queue.popleft())
        return group

    async def _store(self, group: Sequence[_Submitted]) -> tuple[list[Outcome], str]:
        """Store a group, whatever it takes. Returns what became of each batch, and the epoch."""
        number = next(self._number)
        batches = [batch for some, _, _ in group for batch in some]
        server = self._server
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE * server.timeout
        sent = False
        for attempt in itertools.count():
            try:
                if not self._link.is_open:
                    self._tell()
                if not server.epoch:
                    await self._link.enter()
                stale = _stale(group, server)
                keys, arguments = self._encode(batches, stale)
                answer = await self._link.call(APPEND, keys, server.epoch, number, *arguments, on_sent=self._tell)
                self._tell()
                if answer[0] == _DONE:
                    return self._done(batches, answer)
                if answer[0] == _LATE or attempt > _ATTEMPTS:
                    break
                await self._link.enter()
            except LogUnavailable as error:
                self._tell()
                sent = sent or isinstance(error, LinkLost)
                if not sent:
                    raise
                if not isinstance(error, LinkLost):  # the server is away
                    self._fail_queue(error)
                if loop.time() > deadline:
                    hint = "the batch may be stored: append it again under the same token, or look"
                    raise LogUncertain(f"{error}; {hint}") from None
                await asyncio.sleep(min(server.wait(), max(deadline - loop.time(), 0.001)))
        raise LogCorrupt(f"the log on {server.name} does not agree with itself: look at what else writes to its keys")

    def _encode(self, batches: Sequence[Batch], stale: set[int]) -> tuple[list[str], list[str]]:
        first = len(KEYS) + 2
        places: dict[str, str] = {}
        keys = [self._key]

        def place(key: str) -> str:
            found = places[key] = str(first + len(keys) - 1)
            keys.append(key)
            return found

        arguments = [str(int(self._clock() * 1e6)), str(_TOKEN_MS), str(len(batches))]
        add = arguments.append
        for index, batch in enumerate(batches):
            condition, token = batch.condition, batch.token
            if condition is None:
                arguments += ("0", "0")
            else:
                key = CHANNEL + condition.channel
                arguments += (places.get(key) or place(key), "-1" if index in stale else str(condition.newest))
            if token is None:
                add("0")
            else:
                key = TOKEN + token
                add(places.get(key) or place(key))
            add(str(len(batch.events)))
            for channel, event in batch.events:
                key = CHANNEL + channel
                arguments += (places.get(key) or place(key), event.event, event.data)
        return keys, arguments

    def _done(self, batches: Sequence[Batch], answer: Sequence[Any]) -> tuple[list[Outcome], str]:
        epoch, micros, before = answer[1].decode(), int(answer[2]), int(answer[3])
        offsets: list[int] = list(answer[4:])
        self.last = asyncio.get_running_loop().time()
        stored = [(batch, offset) for batch, offset in zip(batches, offsets, strict=True) if offset > before]
        if stored and epoch == self._server.epoch:
            latest = stored[-1][1] + len(stored[-1][0].events) - 1
            self._server.seen = max(self._server.seen, latest)

            def entries() -> list[Entry]:
                time = micros / 1e6
                made = []
                for batch, offset in stored:
                    for at, (channel, event) in enumerate(batch.events, offset):
                        made.append(Entry(at, channel, event.event, event.data, time))
                return made

            self._unseen = epoch, before, entries, latest
        return [outcome_of(number) for number in offsets], epoch


def _weight(submitted: _Submitted) -> tuple[int, int]:
    batches = submitted[0]
    return sum(len(batch.sizes) for batch in batches), sum(sum(batch.sizes) for batch in batches)


def _stale(group: Sequence[_Submitted], server: Server) -> set[int]:
    """Which batches, by number, have a condition about events that were lost when the log began another life."""
    found: set[int] = set()
    index = 0
    for batches, _, epoch in group:
        for batch in batches:
            if epoch and epoch != server.epoch and batch.condition is not None and server.lives is not None:
                place = server.lives.resume(epoch, batch.condition.newest)
                if batch.condition.newest and (place is None or place.lost):
                    found.add(index)
            index += 1
    return found
