"""The contract of a log engine: all that its author needs to know. `newswire.log.log.Log` is what applications call.

A log is an ordered, durable sequence of events over all channels. An engine stores it: in memory, in a file, on a
server. It implements `Engine`, eight methods and a few attributes: `Log` derives from them, once for all engines, what
applications use (`append`, `append_if`, `follow`). Five more methods are for operators (`newswire log`) and have a
default: `info`, `init`, `scan`, `losses` and `restore`. `Log` stands in between for the rest:

* Batches are checked against the engine's `EngineLimits` before the engine sees them, and batches of one pass of the
  event loop come in one `submit`.
* A call that has no answer after `EngineLimits.answer_seconds` ends for its caller: `LogUncertain` if it may have
  stored something, `LogUnavailable` otherwise. What the engine does later with it changes nothing.
* Whatever an engine raises is survived. `LogUnavailable` means: later it may work. `LogCorrupt`: a person has to look.
  Any other exception counts as `LogUnavailable` from a call that reads, and as `LogError` from one that stores.
* Nothing is called after `close`, until the log is opened again: then the next call finds what was stored. An engine
  opens itself at the first call that needs it.
* All methods are called in an event loop, one loop at a time, and all callbacks are called in that loop.

**Offsets** grow over the whole log, in the order in which readers see events. An offset that is left out belongs to no
event, for ever: what was read once has no holes that fill later. They begin at 1, and fit 63 bits.

**Epochs.** An epoch names one life of a log (`newswire.log.position`). A log that was wiped, restored from a copy, or
taken over by a replica that had not got everything begins another, at once, also while it is open. The engine notices
it and says so everywhere: in `Page.epoch` and `Span`, in `submit`'s outcome, and by ending each `tail` with
`EpochChanged`. `Span.past` tells up to where positions of earlier lives are places in this one, if the engine knows.

**Conditions.** What several processes have to agree on they agree on through `Batch.condition`: each reads the newest
event of a channel, decides, and appends under the condition that it still is the newest.

**Tokens.** A batch may have a token, which its publisher uses again when an answer was lost. A token that the log has
seen stores nothing, and has the outcome that it had, as `Known`; with another number of events it is an error,
`TokenReused`. Tokens are stored with the events (another process, and one that
was started again, knows them) for `TOKEN_SECONDS` at least. A batch without a token must not pay for this.

**What was lost.** `Page.lost` is exact as far as the engine knows; where it does not know, `Page.doubt` says so.

**Retention.** `newswire.log.retention` has the rules, the same for every engine. Each engine finds and
removes in its own way what they do not keep.

**A server shared by several hubs.** An engine on a server takes a `namespace`, in its constructor and in its URL: logs
of different namespaces see nothing of each other. In memory and in a file it has no meaning.

`newswire.testing.LogSuite` proves an engine; `docs/explain/log-engines.md` leads through one.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple, TypeAlias

from newswire.errors import LogError, TokenReused
from newswire.log.channels import Channels
from newswire.log.position import Lives
from newswire.log.transactions import Transactions
from newswire.wire.event import Event

# A page ends early past so many bytes of data, so that large events can't make a page of gigabytes.
PAGE_BYTES: Final = 4 * 2**20
# How long a log knows a token, at least, unless more than `TOKENS_KEPT` have come since.
TOKEN_SECONDS: Final = 600.0
TOKENS_KEPT: Final = 100_000


class Entry(NamedTuple):
    """One stored event.

    Attributes:
        offset: its place in the log; with the log's epoch, its `Position`.
        channel: the channel it was published to.
        event: its type, `message` unless the publisher named one.
        data: its data.
        time: when the log took it, in seconds since the Unix epoch (by the clock of the machine that appended it;
            for people and for retention by age, never for order).
    """

    offset: int
    channel: str
    event: str
    data: str
    time: float


@dataclass(frozen=True, slots=True)
class Page:
    """What `read` found.

    Attributes:
        entries: in log order.
        through: the offset up to which this page is complete: there is no kept event of these channels in
            `(after, through]` other than `entries`. A reader goes on from here, also when `entries` is empty.
        lost: the offset of the newest event of these channels that retention removed, 0 if none. A reader whose
            position is before it has missed something: a gap. Taken in the same snapshot as `entries`, and exact as
            far as it is after `after`.
        doubt: up to here these channels may have lost something that the log does not know. 0 if there is no doubt.
            See docs/explain/gaps.md.
        epoch: the log's epoch when this was read.
    """

    entries: Sequence[Entry]
    through: int
    lost: int
    doubt: int = 0
    epoch: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Span:
    """What a log holds.

    Attributes:
        epoch: the log's present life; see `Position`.
        earliest: the offset just before the earliest kept event (equal to `latest` in an empty log).
        latest: the offset of the newest event ever appended, 0 if none.
        past: all epochs that the log has had, and for each the offset up to which its positions are still valid. None:
            it has had only one.
    """

    epoch: str
    earliest: int
    latest: int
    past: Lives | None = field(default=None, compare=False, repr=False)

    @property
    def lives(self) -> Lives:
        """`past`, also of a log that has had one epoch."""
        return self.past or Lives.single(self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What an engine tells people about its storage: `newswire log info`.

    Attributes:
        storage: what it is, with its version: `Valkey 9.1.2`.
        settings: those that decide what survives a crash, as the storage really has them now, whatever a file of
            settings says. In the order in which they are shown.
        risks: how an event that was acknowledged can be lost, in a sentence each, with what to do against it. Empty:
            only with the disk.
        retention: what is kept, by the rules that this engine has or by those of its storage, in words. Empty: all.
        events: how many events are kept; None: not known.
        size: bytes that these take in the storage; None: not known.
    """

    storage: str
    settings: Mapping[str, str] = field(default_factory=dict)
    risks: Sequence[str] = ()
    retention: str = ""
    events: int | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Losses:
    """What a log knows of events that it has no more.

    Attributes:
        channels: the offset of the newest event that each channel lost (`Page.lost`).
        shapes: the same of channels that were forgotten; see `newswire.log.forgotten`. An engine that knows only up to
            where events may be missing says `{">": offset}`.
    """

    channels: Mapping[str, int]
    shapes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A part of another log, for `Engine.restore`.

    Attributes:
        entries: with the offsets and times that they have there, in order. Offsets between them belong to no event.
        through: the offset up to which the copy then is complete.
        lives: of the other log.
        losses: what the other log lost; None: it is not known yet.
        after: the offset up to which earlier parts have come. A log that ends before has lost some of them.
    """

    entries: Sequence[Entry]
    through: int
    lives: Lives
    losses: Losses | None = None
    after: int = 0

    def check_end(self, log: object, latest: int) -> None:
        """See that a log whose newest offset is `latest` has the earlier parts. Engines call it before they store.

        Raises:
            LogError: it has lost some.
        """
        if latest < self.after:
            raise LogError(f"{log} ends at {latest:,}, and has lost events of the copy up to {self.after:,}")


class Condition(NamedTuple):
    """A batch is stored only if the newest event of `channel` has the offset `newest`.

    Attributes:
        channel: what the condition is about. It need not be among the channels of the batch.
        newest: the offset of the newest kept event, as `Engine.newest` gives it; 0: the channel has had none, or was
            dropped. Where retention has removed all events of the channel, the offset of the newest that it removed
            (`Page.lost`); an engine that does not know that any more takes any offset up to the newest that it
            has removed from any channel (its floor).
        epoch: the life of the log that `newest` is a place in. If the log has begun another one since, without that
            event, the condition does not hold, whatever has its offset now. Empty: the one that this process knows of
            when it submits the batch; those who remember an offset for later say which.
    """

    channel: str
    newest: int
    epoch: str = ""

    def is_lost(self, lives: Lives | None, epoch: str = "") -> bool:
        """Whether it is about an event that the log has lost by beginning another life.

        Args:
            lives: the log's; None: not known.
            epoch: what counts if the condition names none.
        """
        epoch = self.epoch or epoch
        if not self.newest or not epoch or lives is None or epoch == lives.epoch:
            return False
        return lives.lost(epoch, self.newest)


class Batch:
    """Events that are stored together, in this order, with no other event in between, or not at all.

    Attributes:
        events: pairs of channel and event, at least one.
        condition: when to store them; None: always.
        token: see the module. None: none.
        sizes: the UTF-8 bytes of each event's data; what `Retention.max_bytes` counts. `Log` fills it in.
        size: of all together. `Log` fills it in.
    """

    __slots__ = ("condition", "events", "size", "sizes", "token")

    def __init__(
        self, events: Sequence[tuple[str, Event]], condition: Condition | None = None, token: str | None = None
    ) -> None:
        self.events: Sequence[tuple[str, Event]] = events
        self.condition: Condition | None = condition
        self.token: str | None = token
        self.sizes: Sequence[int]
        self.size: int


def weigh(batches: Sequence[Batch]) -> tuple[int, int]:
    """The number of events in batches, and the UTF-8 bytes of their data."""
    return sum([len(batch.sizes) for batch in batches]), sum([batch.size for batch in batches])


class Known(int):
    """The outcome of a batch whose token was known: the offset of its first event, which was stored before."""


# What became of a batch: the offset of its first event (the others have the next ones); None: its condition did not
# hold; an error: what kept it from being stored. Of the errors, `LogUncertain` alone means that it may be stored.
Outcome: TypeAlias = int | LogError | None

# How servers write outcomes as one number; of a `Known` one, the offset is negative.
_REUSED: Final = -(2**53)


def outcome_of(number: int) -> Outcome:
    """The outcome that a number of a server's means."""
    if number > 0:
        return number
    return Known(-number) if _REUSED < number < 0 else TokenReused() if number else None


# Called once for each `submit`, with an outcome for each batch, and the epoch in which the offsets are places.
OnDone: TypeAlias = Callable[[Sequence[Outcome], str], object]

# Called with new entries, and whether they are all that comes together: else more may come in this pass of the loop.
OnEntries: TypeAlias = Callable[[Sequence[Entry], bool], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """What an engine can store, and how long it may take. Checked by `Log`.

    Attributes:
        event_bytes: the largest data of one event, in UTF-8 bytes.
        batch_events, batch_bytes: the largest batch. None: any.
        nul: whether data may have the character NUL.
        group_events, group_bytes: what one `submit` gets at most, unless a single batch is larger.
        answer_seconds: how long a call may take; see the module. None: any time.
    """

    event_bytes: int = 64 * 2**20  # far above what a stream should carry
    batch_events: int | None = None
    batch_bytes: int | None = None
    nul: bool = True
    group_events: int = 4096
    group_bytes: int = 16 * 2**20
    answer_seconds: float | None = 30.0


class Engine(ABC):
    """Stores a log: the base class of all engines. The module says what each of them has to keep to.

    Attributes:
        limits: what it can store.
        immediate: whether `submit` calls back before it returns, as in memory. Then `Log` gives it each batch at once.
        shared: whether other processes may have the same log.
        atomic: whether all batches of one `submit` are stored together or not at all (except those whose condition or
            token keeps them out). Then `Log` makes one batch of the single events that come together, which costs less.
        answers_get_lost: whether a batch may be stored although its publisher gets an error, as over a network. Then
            publishers that try again give each batch a token.
        tail_early: whether a hub calls `tail` when it opens, and not only when somebody subscribes: since that costs
            next to nothing, or keeps the engine's own cache up to date.
        known: names of channels that the engine has in memory anyway: `Log` does not check them again, and need not
            remember them.
    """

    limits: EngineLimits = EngineLimits()
    immediate: ClassVar[bool] = False
    shared: ClassVar[bool] = True
    atomic: ClassVar[bool] = False
    answers_get_lost: ClassVar[bool] = True
    tail_early: ClassVar[bool] = False
    known: Container[str] | None = None

    @property
    def part_events(self) -> int:
        """How much of what came in one pass of the event loop one `submit` gets, unless a single batch is larger.

        An engine may store a part, and tell its publishers, before the others.
        """
        return self.limits.group_events

    @property
    def transactions(self) -> Transactions | None:
        """What takes events in an application's own transaction; None: the engine can't."""
        return None

    @abstractmethod
    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        """Store those of `batches` whose condition holds: each whole, in order, each judged after the one before it.

        Calls `on_done` once, when all are stored under the log's durability or have failed; perhaps before it returns.
        What was submitted before is stored before. If it raises, nothing of any batch is stored, and `on_done` is not
        called. A batch that fails does not keep the others from being stored.
        """

    @abstractmethod
    async def tail(self, after: int, epoch: str, on_entries: OnEntries, channels: Channels | None = None) -> None:
        """Call `on_entries` with everything stored after `after`, by whomever: in order, each once, no holes.

        First with what is there already, some at a time, letting the event loop go on in between; then with what
        comes, as soon as it is stored. Never with nothing. Goes on until it is cancelled. A lost connection need not
        end it; a notification of a server's is a reason to look, never the data.

        Args:
            after: an offset; perhaps of an event that is not there yet.
            epoch: the life of the log that `after` is a place in.
            on_entries: does not raise.
            channels: a hint: others' entries need not come. None: all.

        Raises:
            EpochChanged: the log's epoch is not `epoch`, now or later.
            TrimmedAway: retention removed an event before it was given to `on_entries`. An engine that removes events
                by itself gives a tail that keeps up some time to see each.
        """

    @abstractmethod
    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        """Read the kept events of these channels after offset `after`: the earliest of them.

        Args:
            channels: whose events.
            after: an offset; 0 for the beginning.
            limit: how many at most, at least 1. A page may end earlier: past `PAGE_BYTES` of data, or when many events
                of other channels were looked at. Its `through` is past `after` as long as the log's end is.
        """

    @abstractmethod
    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        """The newest kept event of each channel; None where there is none."""

    @abstractmethod
    async def span(self) -> Span:
        """What the log holds now."""

    @abstractmethod
    async def drop(self, cuts: Mapping[str, int]) -> int:
        """Remove the events of each channel up to an offset, whatever retention says.

        A channel that has nothing left is forgotten: it is as if it had never been, and no reader hears of a loss. Of
        others, readers get the same gaps as from retention.

        Returns:
            how many events were removed.
        """

    @abstractmethod
    async def trim(self) -> int:
        """Remove now what retention does not keep; engines also do so by themselves.

        Returns:
            how many events were removed.
        """

    @abstractmethod
    async def close(self) -> None:
        """Store what was submitted, then free everything. A later call opens the engine again."""

    # -- for operators

    async def info(self) -> Info:
        """What the storage is, and what of it decides which events survive. Asks the storage, and changes nothing."""
        return Info(storage=type(self).__name__.removesuffix("Engine"))

    async def init(self) -> str:
        """Make what the log needs in its storage, if it is not there. Idempotent.

        Returns:
            what was done, in a sentence.
        """
        epoch = (await self.span()).epoch
        return f"the log is there, in its life {epoch}"

    async def scan(self, after: int, limit: int) -> Page:
        """As `read`, for all channels, internal ones too. What was lost is left out: `losses` knows it."""
        raise LogError(f"{self} is of a kind that can't be read as a whole yet, so it can't be copied")

    async def losses(self) -> Losses:
        """What was lost, of all channels."""
        span = await self.span()
        return Losses({}, {">": span.earliest} if span.earliest else {})

    async def restore(self, copied: Copied) -> None:
        """Store a part of another log at the offsets that it has there: all of it, or nothing.

        This log is empty, or what it has was stored by earlier calls. Afterwards it is in the same life as the other
        log, so that positions in one are positions in the other; its newest offset is `copied.through`, also if no
        event has it. An entry that this log has already is left out. No one else uses the log meanwhile.

        Raises:
            LogError: the log can't be in another life, since it is in use or has other events; or it has lost a part
                that came earlier (`Copied.check_end`). Nothing was stored.
        """
        raise LogError(f"{self} is of a kind that can't take over another log's offsets yet")


class TailCursor:
    """One call of `Engine.tail`: where it is, and whether it waits.

    Attributes:
        at: the offset up to which it has been given everything.
    """

    __slots__ = ("_loop", "_on_entries", "_waiting", "_wake", "at")

    def __init__(self, at: int, on_entries: OnEntries) -> None:
        self.at: int = at
        self._on_entries = on_entries
        self._waiting = False  # it has caught up
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()

    def give(self, entries: Sequence[Entry], last: bool) -> None:
        """Give it the next entries; see `OnEntries`."""
        self.at = entries[-1].offset  # first: what it calls may store more
        self._on_entries(entries, last)

    def offer(self, entries: Sequence[Entry]) -> bool:
        """Give it new entries, if it waits for just these. Returns whether it did; else `wake` it."""
        if not self._waiting or self.at != entries[0].offset - 1:
            return False
        self.at = entries[-1].offset
        self._on_entries(entries, True)
        return True

    def wake(self) -> None:
        """Let it look."""
        if not self._loop.is_closed():
            self._wake.set()

    async def wait(self) -> None:
        """Wait to be woken."""
        self._wake.clear()
        self._waiting = True
        try:
            await self._wake.wait()
        finally:
            self._waiting = False
