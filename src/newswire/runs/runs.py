"""Runs: finite streams whose producer is tied to no request. An AI answer, a job's progress, an export.

    runs = Runs(hub)
    run = await runs.start(f"chat.{chat_id}", tokens(messages), key=request_id, owner=user.id)   # once for a key
    return run.response(request)                             # the POST's own answer is one reader
    …
    return runs.response(request, run_id, owner=user.id)     # any time later: live, or finished
    await runs.stop(run_id, owner=user.id)                   # a client that leaves stops nothing

A run's readers always get one of four ends (`newswire.end`): `done`, `failed`, `stopped` or `interrupted`, also if the
process that produces it was killed. The end of a connection is never the end of a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from newswire.errors import Closed, InvalidChannel, RunNotFound
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.hub.subscription import Subscription
from newswire.log.position import Position
from newswire.runs.attach import Attachment
from newswire.runs.dialects import Dialect, End, dialect_named
from newswire.runs.options import RunOptions, WorkerOptions
from newswire.runs.reading.reader import RunReader, read_run
from newswire.runs.reading.run import Run
from newswire.runs.response import RunAccepted, RunResponse, place_of
from newswire.runs.start import Start, start
from newswire.runs.stats import RunStats
from newswire.runs.store.record import ANYONE, Anyone, Record, check_name, is_id, out_channel
from newswire.runs.store.store import Books
from newswire.runs.sync import SyncRuns
from newswire.runs.worker.sources import Source
from newswire.runs.worker.worker import Worker

F = TypeVar("F", bound=Callable[..., Any])


class Runs:
    """The runs of one hub's log, as this process produces and reads them.

    It opens itself, and closes with its hub. An owner is any text that names a principal: a run that was started with
    one is there only for calls that give the same, and for those that give none it does not exist. A run without an
    owner is public: whoever knows its id may read it and stop it. Each `start` says which: `owner=` or `public=True`.

    Args:
        hub: where they are stored, and read.
        public: a `start` that gives no owner, or None, makes a public run. For applications without users.
        options: how runs behave that are started without options of their own.
        worker: how this process behaves.
        stream: how the streams of readers behave.

    Attributes:
        stats: numbers; see `RunStats`.
        producers: those that are registered, by name.
        closed: nothing is started any more.
        open_readers: the open streams and iterations of this process, by the run's id; for newswire itself.
        sync: the same for threads; see `SyncRuns`.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        public: bool = False,
        options: RunOptions | None = None,
        worker: WorkerOptions | None = None,
        stream: StreamOptions | None = None,
    ) -> None:
        self.hub = hub
        self.books = Books(hub.log)
        self.stats = RunStats()
        self.stream_options = stream or StreamOptions()
        self.worker_options = worker or WorkerOptions()
        self.producers: dict[str, Callable[..., Any]] = {}
        self.sync = SyncRuns(self)
        self._public = public
        self._options = options or RunOptions()
        self._place = place_of(self.worker_options.path)
        self.open_readers: dict[str, set[RunReader]] = {}
        self._worker: Worker | None = None
        self._live: object = None  # the inside of the hub that the worker was made for
        self._starting: set[asyncio.Task[Run]] = set()
        self.closed = False

    async def __aenter__(self) -> Runs:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def open(self) -> Worker:
        """Begin to watch runs, so that those whose worker died get their end. Idempotent; every awaited call does it.

        Returns:
            the inside of the runs; what it offers is for newswire itself.

        Raises:
            LogUnavailable, LogCorrupt, Closed: see `Hub.open`.
        """
        if self.closed and self._live is None:
            raise Closed("the runs are closed")
        live = await self.hub.runtime()
        if self._live is not live:  # the hub is open for the first time, or was opened again
            self._live = live
            self.closed = False
            self._starting.clear()
            self._worker = Worker(self, self.worker_options)
            self.hub.before_close(self.close)
        if self.closed or self._worker is None:
            raise Closed("the runs are closed")
        return self._worker

    async def close(self, grace: float = 0.0) -> None:
        """Let go of all that this process produces; called when the hub closes. Idempotent.

        Args:
            grace: seconds that runs have to come to their end by themselves. Then those that may be taken over are let
                go, so that another worker can go on at once, and the others are interrupted.
        """
        if not self.closed:
            self.closed = True
            await asyncio.gather(*self._starting, return_exceptions=True)
            if self._worker is not None:
                await self._worker.close(grace)

    # -- producers

    def producer(self, call: F) -> F:
        """Register a callable, by its name, as one that any process that has it can start again: see `takeover`.

        It is called with the run, if it takes one, and with `args` of `start` as keyword arguments, which are stored.
        """
        self.producers[call.__name__] = call
        return call

    async def start(
        self,
        name: str,
        source: Source | None = None,
        *,
        key: str | None = None,
        owner: str | None = None,
        public: bool = False,
        args: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        options: RunOptions | None = None,
        instead_of: Run | None = None,
    ) -> Run:
        """Start a run, or find the one that was started with the same key.

        Once begun it is not undone by a cancellation: who cancels the call may find the run by its key.

        Args:
            name: what the run belongs to: tokens with dots, such as `chat.42`. A name may have many runs.
            source: what makes its parts: an async or sync iterable, something to await, or a callable that gives one of
                these or does the work itself. A callable that takes a positional argument gets the run. None: the run
                waits until somebody claims it with `attach`.
            key: with the same name and owner it leads to the same run, whichever process asks; then `source` is closed
                and not used. An empty one is none.
            owner: whose it is.
            public: it has no owner: whoever knows its id may read it and stop it.
            args: keyword arguments of a callable source.
            meta: stored with the run; dialects read `model`.
            options: see `RunOptions`.
            instead_of: a run of the same key that has ended, and is to be started again under its id. If somebody else
                has done that meanwhile, theirs is found.

        Returns:
            the run. What its source does wrong is told by the run's end, not here.

        Raises:
            InvalidChannel: the name breaks the rules of channels.
            LogUnavailable: it can't be stored now; nothing was started.
            TypeError: neither `owner` nor `public`, or both; or the owner is no str.
            ValueError: `args` or `meta` can't be stored, or the options ask for what can't be; or the owner is empty.
        """
        asked = Start(
            name=name,
            source=source,
            key=key or None,
            owner=owner,
            public=public or (self._public and owner is None),
            args=args or {},
            meta=meta or {},
            options=options or self._options,
            instead_of=None if instead_of is None else instead_of.record,
        )
        task = asyncio.get_running_loop().create_task(start(self, asked), name="newswire run starts")
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return await asyncio.shield(task)

    def attach(self, run_id: str | None = None, *, name: str | None = None, owner: str | None = None) -> Attachment:
        """Write to a run that was started elsewhere: `async with runs.attach(run_id) as run:`, or await it.

        A run that waits for a producer is claimed: it ends with the block, as done, or as failed if that raises. To one
        that has a producer, in whichever process, this adds; then the block's end is not the run's.

        Args:
            run_id, name, owner: which run; see `get`.

        Raises:
            RunNotFound: there is none.
            RunOver: it has ended.
            TypeError: see `get`.
        """
        return Attachment(self, self._finder(run_id, name, owner))

    # -- find, read, stop

    async def get(self, run_id: str | None = None, *, name: str | None = None, owner: str | None = None) -> Run:
        """A run's handle: `get(run_id)`, or `get(name="chat.42")`.

        Args:
            run_id: its id.
            name: instead of the id: the run that this owner has started last under this name.
            owner: whose it is; None: it is public. `ANYONE`: whosever it is, for the application's own code.

        Raises:
            RunNotFound: there is none.
            TypeError: neither an id nor a name, or both.
        """
        return Run(self, await self._finder(run_id, name, owner)())

    def _finder(self, run_id: str | None, name: str | None, owner: str | None) -> Callable[[], Awaitable[Record]]:
        if run_id is not None and name is None:
            return lambda: self.find(run_id, owner)
        if name is not None and run_id is None:
            if isinstance(owner, Anyone):
                raise TypeError("a name is one owner's, or public: ANYONE is for finding runs by their id")
            return lambda: self._find_newest(name, owner)
        raise TypeError("which run? Give its id, or name=... for the run that was started last under a name")

    async def find(self, run_id: str, owner: str | None) -> Record:
        """A run's newest record; see `get`. For newswire itself."""
        await self.open()
        hint = ""
        if not is_id(run_id):
            hint = " (an id ends with a dot and 20 letters and digits; the newest run of a name is found by name=...)"
        else:
            try:
                record = await self.books.look(run_id)
            except InvalidChannel:
                record = None
            if record is not None and (owner == record.owner or isinstance(owner, Anyone)):
                return record
        self.stats.not_found += 1
        raise RunNotFound(run_id, hint)

    async def _find_newest(self, name: str, owner: str | None) -> Record:
        await self.open()
        try:
            run_id = await self.books.newest_of(check_name(name), owner)
        except InvalidChannel:
            run_id = None
        record = None if run_id is None else await self.books.look(run_id)
        if record is None or record.owner != owner:
            self.stats.not_found += 1
            raise RunNotFound(name)
        return record

    def response(
        self,
        request: Any,
        run_id: str | None = None,
        *,
        name: str | None = None,
        owner: str | None = None,
        dialect: str | None = None,
        active: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> RunResponse:
        """The response that streams a run, live or finished, from the place that the request's `Last-Event-ID` says.

        A reader that has come to the end gets 204. A run that does not exist, is not kept any more or belongs to
        somebody else gives 404.

        Args:
            request: not looked at yet: what it says is read when the response is called.
            run_id, name, owner: which run, and who asks; see `get`.
            dialect: how to tell it (`newswire.runs.dialects`); None: the events as they are stored.
            active: answer 204 where no run goes on, as clients expect that ask at each page load.
            headers: more headers.

        Raises:
            TypeError: neither an id nor a name, or both.
            ValueError: there is no such dialect.
        """
        return RunResponse(
            self,
            self._finder(run_id, name, owner),
            dialect=_checked(dialect),
            active=active,
            headers=headers,
            place=self._place,
        )

    def response_to(
        self, run: Run, request: Any, *, dialect: str | None, status_code: int, headers: Mapping[str, str] | None
    ) -> RunResponse:
        """See `Run.response`."""

        async def find() -> Record:
            return await self.find(run.id, run.record.owner)

        return RunResponse(
            self, find, dialect=_checked(dialect), status_code=status_code, headers=headers, place=self._place
        )

    def accepted(self, run: Run, request: Any) -> RunAccepted:
        """See `Run.accepted`."""
        return RunAccepted(run.record, self._place)

    def reader(
        self, record: Record, after: Position | str | None, dialect: Dialect | None = None, *, counts: bool = True
    ) -> Subscription:
        """A reader of a run, which `counts` in the statistics. For newswire itself."""
        if counts:
            self.stats.readers["new" if not after else "resumed"] += 1

        async def came() -> None:
            await (await self.open()).reader_came(record)

        begun = Position(self.hub.epoch, record.begun)
        return read_run(self.hub, record.id, begun, after, dialect=dialect, on_open=came, readers=self.open_readers)

    async def stop(self, run_id: str | None = None, *, name: str | None = None, owner: str | None = None) -> bool:
        """End a run now, whichever process produces it; its readers get `stopped`.

        Args:
            run_id, name, owner: which run; see `get`.

        Returns:
            False if it had ended already.

        Raises:
            RunNotFound: there is none.
            TypeError: see `get`.
        """
        return await self.stop_record((await self._finder(run_id, name, owner)()).id)

    async def stop_record(self, run_id: str) -> bool:
        """See `stop`; whosever run it is. For newswire itself."""
        while True:
            record = await self.find(run_id, ANYONE)
            if record.state == "ended":
                return False
            if await (await self.open()).end(record, End("stopped")):
                return True

    # -- numbers

    @property
    def producing(self) -> int:
        """How many runs this process produces now."""
        return 0 if self._worker is None else len(self._worker.productions)

    @property
    def reading(self) -> int:
        """How many streams of runs, and iterations over them, this process has open now."""
        outs = out_channel("")
        return sum(count for channel, count in self.hub.channels().items() if channel.startswith(outs))

    # -- for handles

    @property
    def latest(self) -> int:
        """The newest offset that this process knows of."""
        return self.hub.latest

    def in_loop(self) -> bool:
        """Whether this is the hub's event loop."""
        try:
            return asyncio.get_running_loop() is self.hub.loop
        except RuntimeError:
            return False

    def call(self, call: Callable[[], object]) -> None:
        """Call something in the hub's event loop: now, or soon from another thread."""
        if self.in_loop():
            call()
        elif self.hub.loop is not None:
            self.hub.loop.call_soon_threadsafe(call)


def _checked(dialect: str | None) -> str | None:
    return None if dialect is None else dialect_named(dialect).name
