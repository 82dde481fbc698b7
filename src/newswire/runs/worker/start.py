"""Starting a run: the request is checked, and stored, or a run of the same key is found.

`Runs.start` makes a `Start` and calls `start` in a task of its own, which goes on if the caller is cancelled: so a run
that is in the log has a producer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from newswire.errors import Closed
from newswire.runs.dialects.base import End
from newswire.runs.options import RunOptions
from newswire.runs.reading.run import Run
from newswire.runs.store.record import Anyone, Record, check_name, check_owner, new_id
from newswire.runs.worker.sources import Source, check_source, discard
from newswire.runs.worker.worker import Worker
from newswire.validate import check_flag, check_kind, shown
from newswire.wire.event import Event
from newswire.wire.payload import as_read, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a call of `Runs.start` asks for; see there."""

    name: str
    source: Source | None
    key: str | None
    owner: str | None
    public: bool
    args: Mapping[str, Any]
    meta: Mapping[str, Any]
    options: RunOptions
    instead_of: Record | None

    def check(self) -> None:
        """Raise what `Runs.start` raises, of what can be seen without a log."""
        check_name(self.name)
        check_flag("public", self.public)
        check_kind("options", self.options, RunOptions)
        if self.source is not None:
            check_source(self.source)
        for what, value in (("args", self.args), ("meta", self.meta)):
            given: Any = value  # anything, where no type checker looks
            if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
                raise TypeError(f"{what} is a mapping of names to values, not {shown(given)}")
        check_owner(self.owner)
        if isinstance(self.owner, Anyone):
            raise ValueError("a run belongs to one owner, or is public: ANYONE is for finding runs")
        if self.owner is None:
            if not self.public:
                raise TypeError(
                    "whose run is this? owner=... makes it one user's own; public=True lets whoever knows its id "
                    "read and stop it (Runs(hub, public=True): all runs that name no owner)"
                )
        elif self.public:
            raise TypeError("a run has an owner or is public, not both")
        elif not self.owner:
            raise ValueError("an owner is not empty: public=True if the run belongs to no one")
        if self.key is not None and not isinstance(self.key, str):
            raise TypeError(f"a key is a str, not {type(self.key).__name__}")

    def record(self, secret: bytes, *, worker: str, producer: str | None) -> tuple[Record, Event]:
        """The first record of the run, and the event that it is stored as.

        Raises:
            ValueError: `args` or `meta` can't be stored.
        """
        options = self.options
        name = check_name(self.name)
        try:
            meta = as_read(self.meta) if self.meta else {}
        except (TypeError, ValueError, RecursionError) as error:
            raise self._refused(error) from None
        record = Record(
            id=new_id(name, self.owner, self.key, secret),
            name=name,
            state="waiting" if self.source is None or options.lazy else "running",
            created=time.time(),
            owner=self.owner,
            worker=None if self.source is None else worker,
            producer=producer,
            args=self.args,
            takeover=options.takeover,
            timeout=options.timeout,
            idle_timeout=options.idle_timeout,
            abandon_after=options.abandon_after,
            claim_within=options.claim_within if self.source is None else None,
            compact_after=options.compact_after,
            keep_for=options.keep_for,
            meta=meta,
        )
        try:
            return record, record.event()
        except (TypeError, ValueError, RecursionError) as error:
            raise self._refused(error) from None

    def _refused(self, error: Exception) -> ValueError:
        try:
            write_json({"args": self.args, "meta": self.meta})
        except (TypeError, ValueError) as unwritable:
            error = unwritable  # it says where the value is that JSON can't say at all
        return ValueError(f"a run's args and meta are stored as JSON, and these can't be: {error}")


async def start(worker: Worker, asked: Start) -> Run:
    """Start a run, or find the one of the same key. Its source is closed if it is not used."""
    store = worker.store
    record, event = asked.record(await store.secret(), worker=worker.id, producer=_registered(worker, asked))
    before = 0 if asked.instead_of is None else asked.instead_of.offset
    while (created := await store.create(record, event, before)) is None:
        found = await store.find(record.id)
        if found is not None:
            return await _found(worker, found, asked)
        before = await store.lost(record.id)  # it is not kept any more
    if asked.source is None:
        worker.monitor.take(created)
    elif worker.closed:  # meanwhile
        await store.end([created], End("interrupted"))
        raise Closed("the runs are closed")
    else:
        worker.produce(created, asked.source, asked.args)
    return Run(worker.readers, created, started=True)


def _registered(worker: Worker, asked: Start) -> str | None:
    """The name that the source is registered by."""
    source = asked.source
    name = getattr(source, "__name__", "")
    if worker.producers.get(name) is source:
        return str(name)
    if asked.options.takeover and asked.key is None and source is not None:
        raise ValueError(
            "no one could take this run over: register its producer (@runs.producer) and give its arguments as "
            "args, or give a key, so that the run can be started again with it"
        )
    return None


async def _found(worker: Worker, found: Record, asked: Start) -> Run:
    worker.store.stats.attached += 1
    if asked.source is not None and found.takeover and found.state != "ended" and worker.monitor.is_orphaned(found):
        writer = await worker.take_over(found, asked.source, asked.args)
        if writer is not None:
            return Run(worker.readers, writer.record, started=True, taken_over=writer.taken_over)
    await discard(asked.source)
    return Run(worker.readers, found)
