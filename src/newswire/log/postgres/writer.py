"""How a group of batches is stored: one call of the function `append`, one transaction. See `GroupCommit`."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

from newswire.log.engine import Batch, EngineLimits
from newswire.log.group_commit import CallAnswer, GroupCommit, OnStored
from newswire.log.postgres.link import Gone, PostgresLink, PostgresServer
from newswire.log.postgres.schema import array

APPEND: Final = """SELECT o_status, o_epoch, o_time, o_before, o_outcomes::text FROM @schema@.append(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::integer[], $11, $12::text::bigint[], $13)"""


class PostgresWriter(GroupCommit):
    """Stores batches."""

    _links: Sequence[PostgresLink]

    def __init__(
        self,
        server: PostgresServer,
        links: Sequence[PostgresLink],
        limits: EngineLimits,
        clock: Callable[[], float],
        on_stored: OnStored,
    ) -> None:
        super().__init__(server, links, limits, on_stored, depth=len(links))
        self._clock = clock
        self._name = secrets.randbits(64) << 64

    async def _call(
        self, number: int, batches: Sequence[Batch], stale: set[int], sent: bool, after: int | None
    ) -> CallAnswer | None:
        server, link = self._server, self._links[number % self.depth]
        call, before = uuid.UUID(int=self._name | number), after and uuid.UUID(int=self._name | after)
        arguments = self._encode(batches, stale)
        await link.settle()
        try:
            [answer] = await link.call(
                APPEND, server.epoch, server.seen, call, sent, before, *arguments, on_sent=self.acknowledge
            )
        except Gone:
            return None
        status, epoch, micros, before, outcomes = answer
        if status:
            return None
        return CallAnswer(epoch, micros, before, outcomes and [int(each) for each in outcomes[1:-1].split(",")])

    def _encode(self, batches: Sequence[Batch], stale: set[int]) -> list[Any]:
        events = [pair for batch in batches for pair in batch.events]
        types: list[str | None] | None = None
        if any(event.event != "message" for _, event in events):
            types = [None if event.event == "message" else event.event for _, event in events]
        arguments: list[Any] = [
            int(self._clock() * 1e6),
            [channel for channel, _ in events],
            types,
            [event.data for _, event in events],
        ]
        if all(batch.condition is None and batch.token is None for batch in batches):
            return [*arguments, None, None, None, None]
        conditions = [batch.condition for batch in batches]
        return [
            *arguments,
            array(len(batch.events) for batch in batches),
            [None if condition is None else condition.channel for condition in conditions],
            array(
                0 if condition is None else -1 if index in stale else condition.newest
                for index, condition in enumerate(conditions)
            ),
            [batch.token for batch in batches],
        ]
