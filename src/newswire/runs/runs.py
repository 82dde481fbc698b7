"""Runs: finite streams whose producer is tied to no request. An AI answer, a job's progress, an export.

    runs = Runs(hub)
    run = await runs.start(f"chat.{chat_id}", tokens(messages), key=request_id, owner=user.id)   # once for a key
    return runs.response(request, run)                       # the POST's own answer is one reader
    …
    return runs.response(request, run_id, owner=user.id)     # any time later: live, or finished
    await runs.stop(run_id, owner=user.id)                   # a client that leaves stops nothing

A run's readers always get one of four ends (`newswire.end`): `done`, `failed`, `stopped` or `interrupted`, also if the
process that produces it was killed. The end of a connection is never the end of a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from newswire.delivery.drain import drain_of
from newswire.errors import Closed, InvalidChannel, RunNotFound
from newswire.hub.hub import Hub
from newswire.hub.options import StreamOptions
from newswire.log.retry import retrieved
from newswire.runs.dialects import End, dialect_named
from newswire.runs.options import RunOptions, WorkerOptions
from newswire.runs.reading.reader import Readers
from newswire.runs.reading.run import Run
from newswire.runs.response import RunAccepted, RunResponse, location_of
from newswire.runs.stats import RunStats
from newswire.runs.store.record import Anyone, Record, check_name, check_owner, is_id, out_channel
from newswire.runs.store.store import RunStore
from newswire.runs.worker.sources import Source, discard
from newswire.runs.worker.start import Start, start
from newswire.runs.worker.worker import Worker
from newswire.runs.worker.writer import Attachment, RunWriter
from newswire.validate import check_flag, check_kind, check_seconds, options_or, shown

F = TypeVar("F", bound=Callable[..., Any])


class Runs:
    """Starts, reads and stops runs: streams that go on without the request that started them.

    It opens with its first call, and closes with its hub. An owner is any text that names a user. A run with an owner
    exists only for calls with the same `owner`. A run without one is public: a client that knows its id may read it and
    stop it. Each `start` says which: `owner=` or `public=True`.

    Args:
        hub: the hub whose log has the runs.
        public: a `start` that gives no owner, or None, makes a public run. For applications without users.
        options: time limits and the like, for each `start` that gives none of its own.
        worker: how this process produces runs; see `WorkerOptions`.
        stream: the heartbeats, limits and `retry:` of the readers' streams.

    Attributes:
        hub: see above.
        store: the records of the runs, in the log.
        stats: counts; see `RunStats`.
        producers: what `producer` has registered, by name.
        sync: the same methods for threads; see `SyncRuns`.

    Raises:
        TypeError: an argument is of another kind.
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
        if not isinstance(hub, Hub):
            raise TypeError(f"Runs takes a Hub, not {shown(hub)}")
        check_flag("public", public)
        self.hub = hub
        self.store: RunStore = RunStore(hub.log, lambda: hub.lives)
        self.stats: RunStats = self.store.stats
        self.producers: dict[str, Callable[..., Any]] = {}
        self.sync: SyncRuns = SyncRuns(self)
        self._public = public
        self._options = options_or("options", options, RunOptions)
        self._worker_options = options_or("worker", worker, WorkerOptions)
        self._stream = options_or("stream", stream, StreamOptions)
        self._location = location_of(self._worker_options.path)
        self._readers = Readers(hub, self.store)
        self._worker: Worker | None = None
        self._live: object = None  # the inside of the hub that the worker was made for
        self._starting: set[asyncio.Task[Run]] = set()
        self._closed = False

    async def __aenter__(self) -> Runs:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Begin to watch runs, so that those whose worker died get their end. Idempotent; every awaited call does it.

        Raises:
            LogUnavailable, LogCorrupt, Closed: see `Hub.open`.
        """
        await self._opened()

    async def _opened(self) -> Worker:
        if self._closed and self._live is None:
            raise Closed("the runs are closed")
        live = await self.hub.runtime()
        if self._live is not live:  # the hub is open for the first time, or was opened again
            self._live = live
            self._closed = False
            self._starting.clear()
            self._worker = Worker(self._readers, self.producers, self._worker_options)
            self.hub.before_close(self._close_with_hub)
        if self._closed or self._worker is None:
            raise Closed("the runs are closed")
        return self._worker

    async def _close_with_hub(self) -> None:
        await self.close(drain_of(asyncio.get_running_loop()).seconds_left)

    async def close(self, grace: float = 0.0) -> None:
        """Let go of all that this process produces. Idempotent.

        The hub calls it when it closes, with no grace; but with what is left of the server's where that lets finite
        streams end by themselves (`newswire run --drain drain`).

        Args:
            grace: seconds that runs have to come to their end by themselves. Then those that may be taken over are let
                go, so that another worker can go on at once, and the others are interrupted.

        Raises:
            ValueError: `grace` is no number.
        """
        check_seconds("grace", grace)
        if not self._closed:
            self._closed = True
            if self._worker is not None:
                self._worker.closed = True
            await asyncio.gather(*self._starting, return_exceptions=True)
            if self._worker is not None:
                await self._worker.close(grace)

    # -- producers

    def producer(self, call: F) -> F:
        """Register a callable, by its name, as one that any process that has it can start again: see `takeover`.

        It is called with the run, if it takes one, and with `args` of `start` as keyword arguments, which are stored.

        Raises:
            TypeError: it is no callable, or has no name.
        """
        name = getattr(call, "__name__", None)
        if name is None:
            raise TypeError(f"a producer is a function, which other processes find by its name, not {shown(call)}")
        self.producers[name] = call
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

        The call may be cancelled while the run is being stored. The run may then exist, and its key finds it.

        Args:
            name: what the run belongs to: tokens with dots, such as `chat.42`. A name may have many runs.
            source: what makes its parts: an async or sync iterable, or an awaitable; or a function that returns one of
                these, or does the work itself and writes to the run, which it gets if it takes a positional argument.
                None: the run waits until a worker claims it with `attach`.
            key: a text that names this start. If a run with the same name, owner and key exists, started by whichever
                process, it is returned, and `source` is closed and not used. None or empty: always a new run.
            owner: a text that names the user whose run it is.
            public: the run has no owner: a client that knows its id may read it and stop it.
            args: keyword arguments for a `source` that is a function.
            meta: a mapping that is stored with the run. The formats of AI APIs (dialects) show its `model`.
            options: see `RunOptions`.
            instead_of: a run of the same key that has ended: start it again under its id. If another call has done so
                meanwhile, the run that it started is returned.

        Returns:
            the run. What its source raises is not raised here: it ends the run as `failed`.

        Raises:
            InvalidChannel: the name breaks the rules of channels.
            LogUnavailable: it can't be stored now; nothing was started.
            TypeError: neither `owner` nor `public` is given, or both are; the owner is not a str, or another argument
                is of another kind.
            ValueError: `args` or `meta` can't be JSON; the owner is empty, or `public` is neither True nor False; or
                `options` allow a takeover, but there is no key, and the source is no registered producer.
        """
        if instead_of is not None:
            check_kind("instead_of", instead_of, Run)
        asked = Start(
            name=name,
            source=source,
            key=key or None,
            owner=owner,
            public=public or (self._public and owner is None),
            args={} if args is None else args,
            meta={} if meta is None else meta,
            options=self._options if options is None else options,
            instead_of=None if instead_of is None else instead_of.record,
        )
        task = asyncio.get_running_loop().create_task(self._start(asked), name="newswire run starts")
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        task.add_done_callback(retrieved)
        return await asyncio.shield(task)

    async def _start(self, asked: Start) -> Run:
        try:
            asked.check()
            return await start(await self._opened(), asked)
        except BaseException:
            await discard(asked.source)
            raise

    def attach(self, run_id: str | None = None, *, name: str | None = None, owner: str | None = None) -> Attachment:
        """Write to a run that was started elsewhere: `async with runs.attach(run_id) as run:`, or await it.

        A run that waits for a producer is claimed: it ends with the block, as done, or as failed if that raises. To one
        that has a producer, in whichever process, this adds; then the block's end is not the run's.

        Args:
            run_id, name, owner: which run; see `get`.

        Raises:
            RunNotFound: there is none.
            RunOver: it has ended.
            LogUnavailable, Closed, TypeError: see `get`.
        """
        find = self._finder(run_id, name, owner)

        async def attach() -> RunWriter:
            return await (await self._opened()).attach(find)

        return Attachment(attach)

    # -- find, read, stop

    async def get(self, run_id: str | None = None, *, name: str | None = None, owner: str | None = None) -> Run:
        """A run's handle: `get(run_id)`, or `get(name="chat.42")`.

        Args:
            run_id: its id.
            name: instead of the id: the run that this owner has started last under this name.
            owner: whose it is; None: it is public. `ANYONE`: any owner, for the application's own code.

        Raises:
            RunNotFound: there is none.
            LogUnavailable, Closed: the log can't be read now; the hub is closed.
            TypeError: neither an id nor a name, or both; or it is not a str.
        """
        return Run(self._readers, await self._finder(run_id, name, owner)())

    def _finder(self, run_id: str | None, name: str | None, owner: str | None) -> Callable[[], Awaitable[Record]]:
        check_owner(owner)
        if run_id is not None and name is None:
            check_kind("a run's id", run_id, str)
            return lambda: self._find(run_id, owner)
        if name is not None and run_id is None:
            if isinstance(owner, Anyone):
                raise TypeError("a name is one owner's, or public: ANYONE is for finding runs by their id")
            check_kind("name", name, str)
            return lambda: self._find_newest(name, owner)
        raise TypeError("which run? Give its id, or name=... for the run that was started last under a name")

    async def _find(self, run_id: str, owner: str | None) -> Record:
        await self.open()
        hint = ""
        if not is_id(run_id):
            hint = " (an id ends with a dot and 20 letters and digits; the newest run of a name is found by name=...)"
        else:
            try:
                record = await self.store.find(run_id)
            except InvalidChannel:
                record = None
            if record is not None and (owner == record.owner or isinstance(owner, Anyone)):
                return record
        self.stats.not_found += 1
        raise RunNotFound(run_id, hint)

    async def _find_newest(self, name: str, owner: str | None) -> Record:
        await self.open()
        try:
            run_id = await self.store.newest_of(check_name(name), owner)
        except InvalidChannel:
            run_id = None
        record = None if run_id is None else await self.store.find(run_id)
        if record is None or record.owner != owner:
            self.stats.not_found += 1
            raise RunNotFound(name)
        return record

    def response(
        self,
        request: Any,
        run: Run | str | None = None,
        *,
        name: str | None = None,
        owner: str | None = None,
        dialect: str | None = None,
        active: bool = False,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> RunResponse:
        """The response that streams a run, live or finished, from the place that the request's `Last-Event-ID` says.

        A reader that has come to the end gets 204. A run that does not exist, is not kept any more or belongs to
        another owner gives 404. To any method but GET the response says where to go on: `Content-Location`, and
        `Location` if `status_code` is 201 or 202.

        Args:
            request: not looked at yet: what it says is read when the response is called.
            run: a `Run`, whatever its owner; or the id of a run that belongs to `owner`.
            name, owner: which run, and for which user; see `get`.
            dialect: how to write it (`newswire.runs.dialects`); None: the events as they are stored.
            active: answer 204 where no run goes on, as clients expect that ask at each page load.
            status_code: of the stream.
            headers: more headers. A `Content-Location` among them says where to go on.

        Raises:
            TypeError: neither a run nor a name, or both; or an argument is of another kind.
            ValueError: there is no such dialect, or a header or the status can't be sent.
        """
        check_flag("active", active)
        if isinstance(request, Run | str):
            raise TypeError("the request comes first: runs.response(request, run)")
        return RunResponse(
            self._readers,
            self._finder(run.id, name, run.record.owner) if isinstance(run, Run) else self._finder(run, name, owner),
            self._location,
            dialect=None if dialect is None else dialect_named(dialect).name,
            status_code=status_code,
            headers=headers,
            active=active,
            stream=self._stream,
        )

    def accepted(self, request: Any, run: Run) -> RunAccepted:
        """The response `202` that only says where a run can be read, as `Location` and in JSON."""
        check_kind("run", run, Run)
        return RunAccepted(run.record, self._location)

    async def stop(self, run_id: str | None = None, *, name: str | None = None, owner: str | None = None) -> bool:
        """End a run now, whichever process produces it; its readers get `stopped`.

        It returns when the end is stored. The producer is cancelled when its process sees that; a sync one goes on in
        its thread until it writes again, which raises `RunOver`.

        Args:
            run_id, name, owner: which run; see `get`.

        Returns:
            False if it had ended already.

        Raises:
            RunNotFound: there is none.
            LogUnavailable, Closed, TypeError: see `get`. The run may go on.
        """
        return await (await self.get(run_id, name=name, owner=owner)).stop()

    # -- numbers

    @property
    def producing(self) -> int:
        """How many runs this process produces now."""
        return 0 if self._worker is None else self._worker.producing

    @property
    def reading(self) -> int:
        """How many streams of runs, and iterations over them, this process has open now."""
        outs = out_channel("")
        return sum(count for channel, count in self.hub.channels().items() if channel.startswith(outs))


class SyncRuns:
    """Blocking calls, for any thread but the event loop's own; see `newswire.hub.sync.SyncHub`.

    Of a run that they give, `put`, `progress` and `track` work in threads as they are.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def start(self, name: str, source: Source | None = None, *, timeout: float | None = None, **options: Any) -> Run:
        """See `Runs.start`."""
        return self._runs.hub.sync.call(lambda: self._runs.start(name, source, **options), timeout)

    @contextmanager
    def attach(
        self, run_id: str | None = None, *, timeout: float | None = None, **which: str | None
    ) -> Iterator[RunWriter]:
        """See `Runs.attach`: `with runs.sync.attach(run_id) as run:`."""
        attachment = self._runs.attach(run_id, **which)
        call = self._runs.hub.sync.call
        run = call(attachment.__aenter__, timeout)
        try:
            yield run
        except BaseException as error:
            failure = error
            call(lambda: attachment.__aexit__(type(failure), failure, failure.__traceback__), timeout)
            raise
        call(lambda: attachment.__aexit__(None, None, None), timeout)

    def stop(self, run_id: str | None = None, *, timeout: float | None = None, **which: str | None) -> bool:
        """See `Runs.stop`."""
        return self._runs.hub.sync.call(lambda: self._runs.stop(run_id, **which), timeout)

    def get(self, run_id: str | None = None, *, timeout: float | None = None, **which: str | None) -> Run:
        """See `Runs.get`."""
        return self._runs.hub.sync.call(lambda: self._runs.get(run_id, **which), timeout)

    def wait(self, run: Run, timeout: float | None = None) -> End:
        """See `Run.wait`.

        Raises:
            TimeoutError: the time is over; the run goes on.
            TypeError: it is no run.
        """
        check_kind("run", run, Run)
        return self._runs.hub.sync.call(run.wait, timeout)

    def text(self, run: Run, timeout: float | None = None) -> str:
        """See `Run.text`."""
        check_kind("run", run, Run)
        return self._runs.hub.sync.call(run.text, timeout)
