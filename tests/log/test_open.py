"""`open_log`: what a URL means, and what is wrong with one that means nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from newswire import Event, Log, Retention, open_log
from newswire.log.channels import Channels
from newswire.log.memory import MemoryLog
from newswire.log.retention import RetentionRules
from newswire.log.sqlite import SqliteLog

pytestmark = pytest.mark.anyio


def path_of(url: str) -> str:
    log = open_log(url)
    assert isinstance(log, SqliteLog)
    return log.engine._file.path


@pytest.mark.parametrize("url", ["memory://", "MEMORY://", "memory:///", "memory://?max_bytes=1000000"])
async def test_memory(url: str) -> None:
    """The log in memory, with its bound as an option."""
    log = open_log(url)
    assert isinstance(log, MemoryLog)
    await log.close()


def test_sqlite_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes are relative to where one is, four absolute; percent signs are decoded."""
    monkeypatch.chdir(tmp_path)
    assert path_of("sqlite:///events.db") == f"{tmp_path}/events.db"
    assert path_of("sqlite:////var/lib/events.db") == "/var/lib/events.db"
    assert path_of("sqlite:///a%20b%3f.db") == f"{tmp_path}/a b?.db"
    assert path_of("sqlite:///ü.db?synchronous=normal&busy_timeout=0.5") == f"{tmp_path}/ü.db"
    assert not list(tmp_path.iterdir()), "a log makes nothing before its first call"


async def test_a_relative_file_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later chdir changes nothing."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    log = open_log("sqlite:///events.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    await log.span()
    await log.close()
    assert (tmp_path / "events.db").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("events.db", "no scheme (did you mean sqlite:///events.db?); this version knows memory://, sqlite:///"),
        ("/var/lib/events.db", "did you mean sqlite:////var/lib/events.db?"),
        ("memory", "no scheme (did you mean memory://?)"),
        (":memory:", "no scheme (did you mean memory://?)"),
        ("", "no scheme; this"),
        ("ada:hunter2@host", "no scheme; this"),
        ("sqlite:events.db", "no scheme (did you mean sqlite:///events.db?)"),
        (
            "sqlite://events.db",
            "needs a file: sqlite:///relative.db or sqlite:////absolute/path.db (did you mean sqlite:///events.db?)",
        ),
        ("sqlite://", "needs a file"),
        ("sqlite:///", "needs a file"),
        ("sqlite://events.db", "needs a file: sqlite:///relative.db"),
        ("sqlite:///:memory:", "is a file"),
        ("sqlite:///a.db?sync=FULL", "has no option 'sync'; a URL may have busy_timeout, synchronous"),
        ("sqlite:///a.db?synchronous=OFF", "synchronous is FULL or NORMAL"),
        ("sqlite:///a.db?busy_timeout=soon", "busy_timeout can't be 'soon'"),
        ("memory://?max_bytes=many", "max_bytes can't be 'many'"),
        ("memory://events", "nothing may follow but options"),
        ("nats://user:secret@", "this NATS URL can't be used"),
        ("nats://user:secret@host:port", "this NATS URL can't be used"),
        ("nats://user:secret@host/path", "this NATS URL can't be used"),
        ("nats://user:secret@host?namespace=a.b", "up to 100 letters"),
        ("nats://user:secret@host?replicas=0", "replicas are 1 to 5"),
        ("nats://user:secret@host?replicas=many", "replicas can't be 'many'"),
        ("nats://user:secret@host?max_payload=5", "max_payload is at least"),
        ("rediss://user:secret@host?ssl_ca_certs=/nope/ca.pem", "ssl_ca_certs=/nope/ca.pem: there is no such file"),
        ("mysql://user:secret@host/db", "no mysql:// log; it knows"),
    ],
)
def test_what_names_no_log(url: str, words: str) -> None:
    """A ValueError that says what would, and repeats no password."""
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        open_log(url)
    assert "secret" not in str(caught.value)
    assert "did you mean sqlite:////?" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retention(max_events=0),
        lambda: Retention(max_age=-1),
        lambda: Retention(max_age=float("nan")),
        lambda: open_log("memory://", retention={"a b": Retention(max_events=1)}),
        lambda: open_log("sqlite:///a.db", retention={"a.>.b": Retention(max_events=1)}),
    ],
)
def test_retention_that_means_nothing(make: object) -> None:
    """It is refused when the log is made, not when something should have been removed."""
    with pytest.raises(ValueError, match=r"number greater than 0|forbidden|whole last token"):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Retention(max_age="7d"), "max_age must be a number greater than 0 (or None for no limit), not '7d'"),  # type: ignore[arg-type]
        (lambda: Retention(max_events="9"), "max_events must be a whole number greater than 0"),  # type: ignore[arg-type]
        (lambda: open_log(b"memory://"), "a log's URL is a str, not b'memory://'"),  # type: ignore[arg-type]
        (lambda: Log("memory://"), "Log takes an engine, not 'memory://': open_log makes a log from a URL"),  # type: ignore[arg-type]
        (lambda: open_log("memory://", max_bytes="3"), "max_bytes must be a whole number greater than 0, not '3'"),
        (lambda: open_log("memory://?max_bytes=-1"), "max_bytes must be a whole number greater than 0, not -1"),
        (
            lambda: open_log("sqlite:///a.db", busy_timeout="3"),
            "busy_timeout is a number of seconds, 0 or more, not '3'",
        ),
        (
            lambda: open_log("sqlite:///a.db?busy_timeout=nan"),
            "busy_timeout is a number of seconds, 0 or more, not nan",
        ),
        (lambda: open_log("redis://h", timeout="3"), "timeout must be a number greater than 0, not '3'"),
        (lambda: open_log("redis://h?timeout=0"), "timeout must be a number greater than 0, not 0.0"),
        (lambda: open_log("redis://h", create="no"), "create is True or False, not 'no'"),
        (lambda: open_log("nats://h", timeout="3"), "timeout must be a number greater than 0, not '3'"),
        (lambda: open_log("nats://h", replicas="3"), "replicas are 1 to 5, not '3'"),
        (lambda: open_log("nats://h", create="no"), "create is True or False, not 'no'"),
        (lambda: open_log("postgresql://h/d", timeout="3"), "timeout must be a number greater than 0, not '3'"),
        (lambda: open_log("postgresql://h/d", pooler="no"), "pooler is True or False, not 'no'"),
        (lambda: open_log("postgresql://h/d", poll="1"), "poll is a number of seconds between 0.001 and 60, not '1'"),
        (lambda: open_log("https://h/", timeout="3"), "timeout must be a number greater than 0, not '3'"),
        (lambda: Channels("news"), "channels is a list of names and patterns, not 'news'"),
        (lambda: open_log("memory://", retention=7), "retention is a Retention, or a mapping"),  # type: ignore[arg-type]
        (lambda: open_log("sqlite:///a.db", retention={">": 7}), "not {'>': 7}"),  # type: ignore[dict-item]
    ],
)
def test_what_is_of_another_type_is_named(make: Callable[[], object], says: str) -> None:
    """A text as the command line has it, a number alone, bytes."""
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        make()


async def events_of_eight_days(url: str, retention: RetentionRules) -> list[str]:
    """What is left, in a log made from a URL, of events that were stored eight days and six days ago."""
    for days in (8, 6):
        log = open_log(url, retention=Retention(), clock=lambda days=days: time.time() - days * 86400)
        await log.append([("news", Event(f"{days} days")), ("$runs.1", Event(f"a run of {days} days"))])
        await log.close()
    log = open_log(url, retention=retention)
    await log.trim()
    page = await log.read(Channels(["news", "$runs.1"]), 0, 10)
    await log.close()
    return [entry.data for entry in page.entries]


async def test_a_file_keeps_a_week_by_default(tmp_path: Path) -> None:
    """So that it doesn't grow for ever; internal channels have owners that see to them."""
    kept = await events_of_eight_days(f"sqlite:///{tmp_path}/week.db", None)
    assert kept == ["a run of 8 days", "6 days", "a run of 6 days"]


@pytest.mark.parametrize("retention", [Retention(), {}, {"other": Retention(max_age=1)}])
async def test_a_retention_that_is_given_is_the_whole_of_it(tmp_path: Path, retention: RetentionRules) -> None:
    """`Retention()` keeps everything, and so does a mapping for the channels that it does not name."""
    kept = await events_of_eight_days(f"sqlite:///{tmp_path}/all.db", retention)
    assert kept == ["8 days", "a run of 8 days", "6 days", "a run of 6 days"]


async def test_a_log_says_once_what_it_keeps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When it opens, at the level of information."""
    caplog.set_level("INFO", "newswire.log")
    for retention in (None, Retention()):
        log = open_log(f"sqlite:///{tmp_path}/events.db", retention=retention)
        for _ in range(2):
            await log.append([("news", Event("x"))])
        await log.close()
    first, second = [record.getMessage() for record in caplog.records]
    assert "; what it keeps: each channel for 7 days" in first
    assert "no retention rule removes events" in second
