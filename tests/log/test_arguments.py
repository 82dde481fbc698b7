"""Arguments of another kind are refused by `Log`, by name, whatever the engine is: nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from newswire import Event, Pattern, open_log
from newswire.errors import InvalidChannel, InvalidEvent
from newswire.log.channels import Channels
from newswire.log.copy import copy
from newswire.log.engine import Batch, Condition, Copied, Entry
from newswire.log.log import Log
from newswire.log.position import Lives, Position
from newswire.log.verify import verify

pytestmark = pytest.mark.anyio

A = Channels(["a"])
X = ("a", Event("x"))
PLACE = Position("abc", 1)


@pytest.fixture(params=["memory", "sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    """It has an event. One engine answers at once, the other later."""
    log = open_log("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/a.db")
    await log.append([X])
    yield log
    await log.close()


async def refused(log: Log, call: Callable[[Log], Any], error: type[Exception], words: str) -> None:
    """See that a call raises, and changes nothing."""
    before = await log.scan(0, 10)
    with pytest.raises(error, match=words):
        waiting = call(log)
        await (waiting if asyncio.iscoroutine(waiting) or asyncio.isfuture(waiting) else asyncio.sleep(0))
    assert await log.scan(0, 10) == before


EVENTS: dict[str, tuple[Any, str]] = {
    "none": (None, "events is a list, not None"),
    "a text": ("ab", "events is a list, not 'ab'"),
    "an event": (Event("x"), "list of pairs"),
    "a pair": (X, "list of pairs"),
    "events alone": ([Event("x")], "list of pairs"),
    "triples": ([(*X, 1)], "list of pairs"),
    "a mapping": ({"a": Event("x")}, "list of pairs"),
    "two texts": ([("a", "x")], "event is an Event, not 'x'"),
    "a plain tuple": ([("a", ("x", "message", None, None, None))], "event is an Event"),
    "one good, one bad": ([X, ("a", None)], "event is an Event, not None"),
}


@pytest.mark.parametrize("given", EVENTS)
async def test_what_is_no_batch(log: Log, given: str) -> None:
    """All of it is checked before any of it is stored."""
    events, words = EVENTS[given]
    await refused(log, lambda log: log.append(events), TypeError, words)
    await refused(log, lambda log: log.append_if(events, Condition("a", 1)), TypeError, words)
    await refused(log, lambda log: log.submit([Batch([X]), Batch(events)], lambda *_: None), TypeError, words)
    await refused(log, lambda log: log.check(events), TypeError, words)


async def test_any_iterable_of_pairs_is_a_batch(log: Log) -> None:
    """A generator is read once, and all of it is stored."""
    assert [place.offset for place in await log.append(pair for pair in [X, X])] == [2, 3]  # type: ignore[arg-type]
    assert [place.offset for place in await log.append((X, X))] == [4, 5]
    assert [entry.offset for entry in (await log.read(A, 1, 10)).entries] == [2, 3, 4, 5]


async def test_what_is_no_event(log: Log) -> None:
    """The way of `Hub.publish`, which stores single events."""
    await refused(log, lambda log: log.append_one("a", None), TypeError, "event is an Event, not None")  # type: ignore[arg-type]
    await refused(log, lambda log: log.append_one(5, Event("x")), InvalidChannel, "int")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("token", "error", "words"),
    [
        (3, TypeError, "token is a str, not 3"),
        (b"t", TypeError, "token is a str"),
        ("", ValueError, "1 to 256"),
        ("x\0", ValueError, "NUL"),
        ("\ud800", ValueError, "surrogate"),
    ],
)
async def test_what_is_no_token(log: Log, token: Any, error: type[Exception], words: str) -> None:
    """Nor is a text that a server's database can't have."""
    await refused(log, lambda log: log.append([X], token=token), error, words)


@pytest.mark.parametrize(
    ("condition", "error", "words"),
    [
        (None, TypeError, "condition is a Condition, not None"),
        (("a", 1), TypeError, "condition is a Condition"),
        (Condition("a", "1"), ValueError, "newest is an offset"),  # type: ignore[arg-type]
        (Condition("a", PLACE), ValueError, "newest is an offset"),  # type: ignore[arg-type]
        (Condition("a", True), ValueError, "newest is an offset"),
        (Condition("a b", 0), InvalidChannel, "forbidden"),
        (Condition("a", 1, 5), TypeError, "epoch is a str"),  # type: ignore[arg-type]
    ],
)
async def test_what_is_no_condition(log: Log, condition: Any, error: type[Exception], words: str) -> None:
    """It does not just fail to hold."""
    await refused(log, lambda log: log.append_if([X], condition), error, words)


CALLS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "submit: none": (lambda log: log.submit(None, print), TypeError, "batches is a list"),
    "submit: a batch": (lambda log: log.submit(Batch([X]), print), TypeError, "batches is a list"),
    "submit: pairs": (lambda log: log.submit([[X]], print), TypeError, "batch is a Batch"),
    "submit: of nothing": (lambda log: log.submit([Batch([])], print), ValueError, "at least one event"),
    "submit: no function": (lambda log: log.submit([Batch([X])], None), TypeError, "on_done is a function"),
    "read: names": (lambda log: log.read(["a"], 0, 1), TypeError, "channels is a Channels"),
    "read: a position": (lambda log: log.read(A, PLACE, 1), ValueError, "after is an offset"),
    "read: a text": (lambda log: log.read(A, "0", 1), ValueError, "after is an offset"),
    "read: a part": (lambda log: log.read(A, 0.5, 1), ValueError, "after is an offset"),
    "read: too far": (lambda log: log.read(A, 2**63, 1), ValueError, "after is an offset"),
    "read: no limit": (lambda log: log.read(A, 0, None), ValueError, "limit is a whole number"),
    "read: an epoch": (lambda log: log.read(A, 0, 1, epoch=3), TypeError, "epoch is a str"),
    "scan: a text": (lambda log: log.scan("0", 1), ValueError, "after is an offset"),
    "scan: no limit": (lambda log: log.scan(0, "1"), ValueError, "limit is a whole number"),
    "newest: a text": (lambda log: log.newest("ab"), TypeError, "channels is a list"),
    "newest: a set": (lambda log: log.newest(A), TypeError, "channels is a list"),
    "newest: a pattern": (lambda log: log.newest([Pattern("a.*")]), InvalidChannel, "wildcards"),
    "newest: no name": (lambda log: log.newest([None]), InvalidChannel, "not NoneType"),
    "tail: no offset": (lambda log: log.tail(None, "e", print), ValueError, "after is an offset"),
    "tail: no epoch": (lambda log: log.tail(0, None, print), TypeError, "epoch is a str"),
    "tail: no function": (lambda log: log.tail(0, "e", None), TypeError, "on_entries is a function"),
    "tail: names": (lambda log: log.tail(0, "e", print, ["a"]), TypeError, "channels is a Channels"),
    "follow: a position": (lambda log: log.follow(PLACE), ValueError, "after is an offset"),
    "follow: a text": (lambda log: log.follow("1"), ValueError, "after is an offset"),
    "drop: names": (lambda log: log.drop(["a"]), TypeError, "cuts is a Mapping"),
    "drop: nothing": (lambda log: log.drop(None), TypeError, "cuts is a Mapping"),
    "drop: a text": (lambda log: log.drop({"a": "0"}), ValueError, "is an offset"),
    "drop: no end": (lambda log: log.drop({"a": None}), ValueError, "is an offset"),
    "drop: a pattern": (lambda log: log.drop({Pattern("*"): 1}), InvalidChannel, "wildcards"),
    "copy: a URL": (lambda log: copy(log, "memory://"), TypeError, "target is a Log"),  # type: ignore[arg-type]
    "copy: a flag": (lambda log: copy(log, log, resume="no"), ValueError, "resume is True or False"),  # type: ignore[arg-type]
    "verify: a URL": (lambda log: verify("memory://"), TypeError, "log is a Log"),  # type: ignore[arg-type]
    "channels: none": (lambda log: Channels(None), TypeError, "channels is a list"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CALLS)
async def test_each_call(log: Log, name: str) -> None:
    """Not as if the log could not be read now: then callers try again."""
    await refused(log, *CALLS[name])


async def test_a_limit_that_nothing_has(log: Log) -> None:
    """Less than one is one, and a number that no engine counts to is any."""
    assert len((await log.read(A, -5, 0)).entries) == len((await log.scan(-5, 2**70)).entries) == 1


def entry(offset: Any, channel: Any = "a", event: Any = "message", data: Any = "x", time: Any = 1.0) -> Entry:
    return Entry(offset, channel, event, data, time)


COPIES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "entries: none": ({"entries": None}, TypeError, "entries is a Sequence"),
    "entries: an iterator": ({"entries": iter([entry(1)])}, TypeError, "entries is a Sequence"),
    "entries: tuples": ({"entries": [entry(1), (2, "a", "message", "x", 1.0)]}, TypeError, "entry is an Entry"),
    "out of order": ({"entries": [entry(2), entry(1)]}, ValueError, "in order"),
    "twice": ({"entries": [entry(1), entry(1)]}, ValueError, "in order"),
    "behind the end": ({"entries": [entry(1), entry(3)]}, ValueError, "in order, up to 2"),
    "an offset that is a text": ({"entries": [entry("1")]}, ValueError, "offset"),
    "no channel": ({"entries": [entry(1), entry(2, channel=None)]}, InvalidChannel, "not NoneType"),
    "a bad channel": ({"entries": [entry(1, channel="a b")]}, InvalidChannel, "forbidden"),
    "a type with a line feed": ({"entries": [entry(1, event="a\nid: 7")]}, InvalidEvent, "line feed"),
    "data that is no text": ({"entries": [entry(1), entry(2, data=5)]}, InvalidEvent, "data must be a str"),
    "a time that is a text": ({"entries": [entry(1, time="now")]}, ValueError, "number of seconds"),
    "no end": ({"through": "2"}, ValueError, "through is an offset"),
    "no lives": ({"lives": "abc"}, TypeError, "lives is a Lives"),
    "losses of another kind": ({"losses": {"a": 1}}, TypeError, "losses is a Losses"),
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_what_is_no_copy(kind: str, name: str, tmp_path: Path) -> None:
    """A part is stored whole or not at all, and so is the life that it is of."""
    given, error, words = COPIES[name]
    log = open_log("memory://" if kind == "memory" else f"sqlite:///{tmp_path}/a.db")
    span = await log.span()
    part = {"entries": [entry(1), entry(2)], "through": 2, "lives": Lives.single("abc")}
    with pytest.raises(error, match=words):
        await log.restore(Copied(**{**part, **given}))
    assert await log.span() == span
    await log.restore(Copied(**part))
    assert (await log.span()).epoch == "abc"
    await log.close()
