"""How a group of batches is stored: by one script call, which is atomic.

A call has a number. If its answer is lost it is sent again under the same number, and the script gives the outcome that
it had: so a batch is never there twice. A call that the server may have got and that can't be repaired in time has the
outcome `LogUncertain`; one that was never sent, `LogUnavailable`, at once.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from newswire.errors import LogCorrupt, LogUnavailable, LogUncertain
from newswire.log.engine import TOKEN_SECONDS, Batch, Entry, Limits, Outcome, outcome_of
from newswire.log.group_commit import PATIENCE, GroupCommit, OnStored, Submitted, stale_batches
from newswire.log.redis.link import Link, LinkLost, Server
from newswire.log.redis.scripts import APPEND, CHANNEL, KEYS, TOKEN, WRITER

_TOKEN_MS: Final = int(TOKEN_SECONDS * 1000)
_ATTEMPTS: Final = 100  # when the log begins one life after the other
_DONE, _OTHER_EPOCH, _BROKEN, _LATE = range(4)


class Writer(GroupCommit):
    """Stores batches.

    Args:
        on_stored: see `GroupCommit`.
    """

    def __init__(self, server: Server, limits: Limits, clock: Callable[[], float], on_stored: OnStored) -> None:
        super().__init__(limits, on_stored)
        self._server = server
        self._clock = clock
        self._link = Link(server)
        self._key = WRITER + secrets.token_hex(8)
        self._number = itertools.count(1)

    @property
    def epoch(self) -> str:
        """See `GroupCommit.epoch`."""
        return self._server.epoch

    @property
    def away(self) -> LogUnavailable | None:
        """See `GroupCommit.away`."""
        return LogUnavailable(f"the server {self._server.name} can't be reached now") if self._server.away else None

    async def close(self) -> None:
        """Store what was submitted, then close the connection."""
        await super().close()
        await self._link.close()

    async def store(self, group: Sequence[Submitted]) -> tuple[list[Outcome], str]:
        """See `GroupCommit.store`."""
        number = next(self._number)
        batches = [batch for some, _, _ in group for batch in some]
        server = self._server
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE * server.timeout
        sent = False
        for attempt in itertools.count():
            try:
                if not self._link.is_open:
                    self.tell()
                if not server.epoch:
                    await self._link.enter()
                stale = stale_batches(group, server.lives)
                keys, arguments = self._encode(batches, stale)
                answer = await self._link.call(APPEND, keys, server.epoch, number, *arguments, on_sent=self.tell)
                self.tell()
                if answer[0] == _DONE:
                    return self._done(batches, answer)
                if answer[0] == _LATE or attempt > _ATTEMPTS:
                    break
                await self._link.enter()
            except LogUnavailable as error:
                self.tell()
                sent = sent or isinstance(error, LinkLost)
                if not sent:
                    raise
                if not isinstance(error, LinkLost):  # the server is away
                    self.fail_queue(error)
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

            self.stored(epoch, before, entries, latest)
        return [outcome_of(number) for number in offsets], epoch
