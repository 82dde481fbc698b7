"""The stream that has the log: it is made and found here, and so is which life of the log goes on.

A stream has its lives in its metadata, and the newest also in a message: of several processes that find out at the same
time that the log needs another life, the one whose message is stored first has begun it (a message is stored under the
condition that no other came before). Its place in the stream is where the life begins.

A life begins when the server process is another one: it may have lost its newest events, and those who know best, the
processes that have seen them, need not be there. And when the stream ends before what this process has seen of it. A
stream that was made again is another log altogether.

Where the server has no room for that message, the log is read in the life that it had: as long as nothing is stored, no
offset is used twice. What stores calls `settle` first, which begins the life. The same holds for a copy of another log,
as long as only the copying stores: the message would take the offset of an event that is still to come.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Final

from newswire.errors import LogCorrupt, LogError, LogUnavailable
from newswire.log.engine import TOKEN_SECONDS
from newswire.log.nats.link import FULL, NatsLink, NatsRefused, NoResponders, refused
from newswire.log.nats.subjects import Subjects
from newswire.log.position import Life, Lives, lives_text, new_epoch, parse_lives
from newswire.log.retention import Retention
from newswire.log.server import Attempts, no_log

logger: logging.Logger = logging.getLogger("newswire.log")

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
WRONG_SEQUENCE: Final = (10071, 10164)
_NOT_FOUND: Final = 10059
_IN_USE: Final = (10058, 10065)  # another process has made it at the same time
NO_MESSAGE: Final = 10037
_ATTEMPTS: Final = 20
_LIVES: Final = 200  # that are kept
NS: Final = 10**9
_LIVES_KEY: Final = "newswire.lives"
_RUN_KEY: Final = "newswire.run"
_MADE_KEY: Final = "newswire.made"
_DOUBT_KEY: Final = "newswire.doubt"
_COPY_KEY: Final = "newswire.copy"
_PER_SUBJECT: Final = "max_msgs_per_subject"
_LIMITS: Final = ("max_age", "max_msgs", "max_bytes", "duplicate_window")


class _NoRoom(LogUnavailable):
    """The server can store nothing now."""


@dataclass(frozen=True, slots=True)
class State:
    """What the stream has now.

    Attributes:
        first, last: the offsets of its first message and of its newest ever; `first` is past `last` if it is empty.
        messages: how many.
        bytes: how large they are together.
        marks: subjects of marks that a call asked for.
    """

    first: int
    last: int
    messages: int
    bytes: int
    marks: frozenset[str]

    @property
    def floor(self) -> int:
        """The offset just before the first message."""
        return self.first - 1


class NatsStream(Attempts):
    """The stream, as all parts of an engine see it.

    Attributes:
        link: the connection.
        name: the stream's.
        epoch: the present life of the log; empty: not known yet.
        lives: all of them.
        seen: the newest offset that this process knows of, in that epoch.
        doubt: up to here a log that this one was copied from had lost something.
        subjects: of this stream.
        single: whether one server has it, which then knows its end.
        made: whether this process has made the stream.
        on_epoch: called when the epoch has changed.
        create: whether to make a stream where there is none.
    """

    def __init__(self, link: NatsLink, name: str, retention: Retention, replicas: int, create: bool = True) -> None:
        super().__init__()
        self.link = link
        self.create = create
        self.name = name
        self.epoch: str = ""
        self.lives: Lives | None = None
        self.seen: int = 0
        self.doubt: int = 0
        self.subjects: Subjects = Subjects(name, "")
        self.single: bool = True
        self.made: bool = False
        self.on_epoch: list[Callable[[], object]] = []
        self._retention = retention
        self._replicas = replicas
        self._created = ""
        self._entered = False
        self._applied = False
        self._unsettled: _NoRoom | None = None  # why the life that the log needs was not begun
        self._is_copy = False  # and nothing else has stored in it
        self._lock = asyncio.Lock()
        link.on_lost.append(self._lost)

    def __str__(self) -> str:
        return f"{self.link.name} ({self.name})"

    def is_ready(self) -> bool:
        """Whether there is a connection, and the stream was looked at over it."""
        return self._entered

    async def ready(self) -> None:
        """Connect, and look which life of the log goes on, if that was not done.

        Raises:
            LogUnavailable: not now. For a moment every call then fails, without another attempt.
        """
        if self.is_ready():
            return
        async with self._lock:
            if self.is_ready():
                return
            self.check_pause()
            try:
                if not self.link.is_open:
                    await self.link.connect()
                await self._enter()
                self._entered = self.link.is_open
            except LogError as error:
                await self.link.close()
                self.pause(error)
                raise
            self.reached()

    async def look_again(self) -> None:
        """Look again which life of the log goes on."""
        self._entered = False
        await self.ready()

    async def settle(self, *, copying: bool = False) -> None:
        """Begin the life that the log needs, if that was put off. Done before anything is stored.

        Args:
            copying: what is going to be stored comes from the log that this one is a copy of.

        Raises:
            LogUnavailable: there is no room still.
        """
        await self.ready()
        if self._is_copy and not copying:
            await self.note(is_copy=False)
            await self.look_again()
        if self._unsettled is not None:
            await self.look_again()
            if self._unsettled is not None:
                raise copy(self._unsettled)

    async def apply(self, *, copying: bool = False) -> None:
        """Give the stream this process's retention and replicas, if it has others. Done by those who store.

        Args:
            copying: see `settle`, which this calls.
        """
        await self.settle(copying=copying)
        if self._applied:
            return
        info = await self._info()
        wanted = self._settings()
        changed = {name: value for name, value in wanted.items() if info["config"].get(name) != value}
        if changed:
            shown = ", ".join(f"{name} {info['config'].get(name)} -> {value}" for name, value in changed.items())
            logger.info("the stream %s gets other settings: %s", self, shown)
            await self.link.api(f"STREAM.UPDATE.{self.name}", {**info["config"], **changed})
            if _PER_SUBJECT in changed:  # what it has removed by now is not known
                await self.note(doubt=int(info["state"]["last_seq"]))
        self._applied = True

    async def enforce(self) -> None:
        """Have the server remove, now, what this process's retention does not keep.

        The stream keeps the limits of processes that store: any other, such as an operator's, has them put back.
        """
        await self.ready()
        if self._applied:
            return
        config = (await self._info())["config"]
        wanted = self._settings()
        limits = {name: wanted[name] for name in _LIMITS if config.get(name) != wanted[name]}
        if not limits:
            return
        await self.link.api(f"STREAM.UPDATE.{self.name}", {**config, **limits})
        now = (await self._info())["config"]
        own = {name: config[name] for name, value in limits.items() if now.get(name) == value}
        await self.link.api(f"STREAM.UPDATE.{self.name}", {**now, **own})

    async def state(self, marks: str = "") -> State:
        """What the stream has now, in the life that is known: if it is another, look at `epoch`.

        Args:
            marks: a filter of marks to look for.
        """
        seen = self.seen  # more may become known while the server answers
        info = await self._info({"subjects_filter": marks} if marks else None)
        found = info["state"]
        last = found["last_seq"]
        if info["created"] != self._created or last < seen:
            await self.look_again()
            info = await self._info({"subjects_filter": marks} if marks else None)
            found = info["state"]
            last = found["last_seq"]
        self.seen = max(self.seen, last)
        first = found["first_seq"] if found["messages"] else last + 1
        subjects = frozenset(found.get("subjects") or ())
        return State(max(first, 1), last, found["messages"], found["bytes"], subjects)

    async def look(self) -> dict[str, Any]:
        """All that the server says of the stream."""
        await self.ready()
        return await self._info()

    async def adopt(self, lives: Lives, last: int) -> bool:
        """Be in the life of another log, whose copy this one is. Returns whether it can be.

        Args:
            lives: of the other log.
            last: the newest offset here.

        Raises:
            LogError: a life of its own began here, whose record has an offset that an event of the other log has.
        """
        known = self.lives.all if self.lives is not None else ()
        if lives.epoch == self.epoch:
            return True
        if last and not {life.epoch for life in lives.all}.intersection(life.epoch for life in known):
            return False
        if last and known[-1].after < last and lives.resume(known[-1].epoch, 0) is None:
            raise LogError(
                f"the log on {self} began a life of its own after {known[-1].after:,}, for its server was started "
                "again, and so an offset of the original is taken: begin again with an empty log"
            )
        await self.link.api(f"STREAM.PURGE.{self.name}", {"filter": self.subjects.life})
        await self.note(lives=lives, is_copy=True)
        self.lives = None
        await self.look_again()
        return True

    async def note(self, *, lives: Lives | None = None, doubt: int = 0, is_copy: bool | None = None) -> None:
        """Have more in the metadata."""
        config = (await self.look())["config"]
        metadata = dict(config["metadata"])
        if lives is not None:
            metadata[_LIVES_KEY] = lives_text(list(lives.all)[-_LIVES:])
        if doubt > int(metadata.get(_DOUBT_KEY, 0)):
            metadata[_DOUBT_KEY] = str(doubt)
            self.doubt = doubt
        if is_copy is not None:
            metadata.pop(_COPY_KEY, None)
            metadata |= {_COPY_KEY: "1"} if is_copy else {}
        if metadata != config["metadata"]:
            await self.link.api(f"STREAM.UPDATE.{self.name}", {**config, "metadata": metadata})

    def found_life(self, data: bytes) -> bool:
        """Whether this is the message of a known life."""
        return self.lives is not None and self.lives.resume(_epoch_of(data), 0) is not None

    def _lost(self) -> None:
        self._entered = self._applied = False

    def _settings(self) -> dict[str, Any]:
        """What an operator may set otherwise, and this process's retention says."""
        kept = self._retention
        age = 0 if kept.max_age is None else max(int(kept.max_age * NS), NS // 10)
        window = int(TOKEN_SECONDS) * NS
        return {
            "max_age": age,
            "max_msgs": kept.max_events or -1,
            "max_bytes": kept.max_bytes or -1,
            _PER_SUBJECT: -1,  # it removes in the middle, and no reader would hear of it
            "num_replicas": self._replicas,
            "duplicate_window": min(window, age) if age else window,
        }

    async def _info(self, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            return await self.link.api(f"STREAM.INFO.{self.name}", body)
        except NatsRefused as error:
            if error.code != _NOT_FOUND or not self._entered:
                raise
        await self.look_again()
        return await self.link.api(f"STREAM.INFO.{self.name}", body)

    async def _enter(self) -> None:
        for _ in range(_ATTEMPTS):
            seen = self.seen  # more may become known while the server answers
            try:
                info = await self.link.api(f"STREAM.INFO.{self.name}")
            except NoResponders:
                raise LogUnavailable(f"the server {self.link.name} has no JetStream now") from None
            except NatsRefused as error:
                if error.code != _NOT_FOUND:
                    raise LogUnavailable(f"the stream {self} can't be read: {error}") from None
                await self._make()
                continue
            config, created = info["config"], info["created"]
            subjects = self._subjects(config)
            metadata = config["metadata"]
            lives = parse_lives(metadata[_LIVES_KEY])
            record, at = await self._record(subjects)
            if record:
                earlier = parse_lives(record["lives"]) if record["lives"] else []
                lives = [*earlier, Life(record["epoch"], at - 1 if record["lives"] else 0)]
                metadata = {**metadata, _RUN_KEY: record["run"], _MADE_KEY: record["made"]}
            last = info["state"]["last_seq"]
            again = metadata.get(_MADE_KEY, created) != created
            same = lives[-1].epoch == self.epoch and created == self._created
            lost = same and last < seen
            moved = bool(self.link.run) and metadata.get(_RUN_KEY, "") != self.link.run
            self._is_copy = not again and _COPY_KEY in config["metadata"]
            if self._is_copy:
                self.seen = min(self.seen, last)  # what is lost comes again
            elif again or lost or moved:
                try:
                    await self._begin(subjects, [] if again else lives, at, created)
                    continue
                except _NoRoom as error:
                    if again or lost:
                        raise
                    self._unsettled = error
            else:
                self._unsettled = None
                await self._copy(config, lives, created)
            self.doubt = int(metadata.get(_DOUBT_KEY, 0))
            self._found(subjects, lives, created, last, config.get("num_replicas", 1) == 1)
            return
        raise LogUnavailable(f"the log on {self} begins one life after the other")

    async def _make(self) -> None:
        if not self.create:
            raise no_log(f"on {self}")
        epoch = new_epoch()
        body = {
            "name": self.name,
            "subjects": [Subjects(self.name, epoch).all],
            "description": "a log of newswire's",
            "retention": "limits",
            "discard": "old",
            "storage": "file",
            "allow_direct": True,
            "allow_atomic": True,
            "allow_rollup_hdrs": True,
            "max_consumers": -1,
            "max_msg_size": -1,
            **self._settings(),
            "metadata": {_LIVES_KEY: f"{epoch}:0", _RUN_KEY: self.link.run},
        }
        try:
            made = await self.link.api(f"STREAM.CREATE.{self.name}", body)
        except NatsRefused as error:
            if error.code in _IN_USE:
                return
            raise LogUnavailable(f"the stream {self} can't be made: {error}") from None
        self.made = True
        if not made["config"].get("allow_atomic"):
            raise LogUnavailable(f"the server {self.link.name} is too old: NATS 2.12 or newer is needed")

    def _subjects(self, config: Mapping[str, Any]) -> Subjects:
        taken = config.get("subjects") or [""]
        parts = taken[0].split(".")
        if _LIVES_KEY not in (config.get("metadata") or {}) or len(taken) != 1 or len(parts) != 3:
            raise LogCorrupt(f"the stream {self} is something else's: use another namespace")
        return Subjects(parts[0], parts[1])

    async def _record(self, subjects: Subjects) -> tuple[dict[str, Any], int]:
        """The message of the newest life, and its offset."""
        try:
            found = await self.link.api(f"STREAM.MSG.GET.{self.name}", {"last_by_subj": subjects.life})
        except NatsRefused as error:
            if error.code == NO_MESSAGE:
                return {}, 0
            raise
        message = found["message"]
        try:
            record: dict[str, Any] = json.loads(base64.b64decode(message.get("data", "")))
            parse_lives(record["lives"] or f"{record['epoch']}:0")
            _ = record["run"], record["made"]
        except (ValueError, KeyError, TypeError, AttributeError, LogCorrupt):
            what = f"message {message['seq']} of the stream {self} is something else's: remove it"
            raise LogCorrupt(f"{what} (nats stream rmm {self.name} {message['seq']})") from None
        return record, int(message["seq"])

    async def _begin(self, subjects: Subjects, lives: list[Life], at: int, created: str) -> None:
        """Begin another life, unless another process does so first."""
        text = lives_text(lives[-_LIVES:])
        body = {"epoch": new_epoch(), "lives": text, "run": self.link.run, "made": created}
        answer = await self.link.ask(subjects.life, json.dumps(body).encode(), {EXPECTED: str(at)})
        try:
            refused(json.loads(answer.data))
        except NatsRefused as error:
            if error.code in FULL:
                raise _NoRoom(f"the log on {self} can't begin another life: {error}") from None
            if error.code not in WRONG_SEQUENCE:
                raise LogUnavailable(f"the log on {self} can't begin another life: {error}") from None

    async def _copy(self, config: Mapping[str, Any], lives: list[Life], created: str) -> None:
        """Have the lives in the metadata, which no retention removes."""
        old = config["metadata"]
        new = {**old, _LIVES_KEY: lives_text(lives[-_LIVES:]), _RUN_KEY: self.link.run or old.get(_RUN_KEY, "")}
        new[_MADE_KEY] = created
        if new != old:
            await self.link.api(f"STREAM.UPDATE.{self.name}", {**config, "metadata": new})

    def _found(self, subjects: Subjects, lives: list[Life], created: str, last: int, single: bool) -> None:
        again, self._created = created != self._created, created
        self.single = single
        epoch = lives[-1].epoch
        if epoch == self.epoch:
            self.seen = max(self.seen, last)
            return
        if self.epoch:
            logger.debug("the log on %s has begun another life: it may have lost its newest events", self)
        branches = _branches(self.lives, lives) if self.lives is not None and not again else {}
        self.subjects = subjects
        self.lives = Lives(lives, branches)
        self.epoch = epoch
        self.seen = last
        for each in self.on_epoch:
            each()


def _branches(old: Lives, new: list[Life]) -> dict[str, int]:
    """Lives that an older state does not know, which was put back; and up to where they are common to the present."""
    known = {life.epoch for life in new}
    gone = [life for life in old.all if life.epoch not in known]
    if not gone or len(gone) == len(old.all):
        return {}
    last = old.all[old.all.index(gone[0]) - 1].epoch  # that both have
    after = [life.after for life in new[[life.epoch for life in new].index(last) + 1 :]]
    end = min([gone[0].after, *after])
    return {epoch: min(place, end) for epoch, place in old.branches.items()} | dict.fromkeys(
        (life.epoch for life in gone), end
    )


def _epoch_of(data: bytes) -> str:
    return str(json.loads(data).get("epoch", ""))
