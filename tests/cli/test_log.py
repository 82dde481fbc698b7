"""`newswire log`: init, info, trim, tail and verify, on a file and on a Valkey server."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path
from secrets import token_hex

import anyio
import pytest
from tests.fixtures.engines import Nats, Postgres, Valkey
from tests.fixtures.serve import NEWSWIRE, call_newswire, clean_environment, run_newswire

from newswire.log import Entry, Retention, open_log
from newswire.log.engine import Copied
from newswire.log.position import Life, Lives
from newswire.wire.event import Event


def log(folder: Path, *arguments: str, status: int = 0, apart: bool = False, **environment: str) -> str:
    """Run a command below `newswire log`, here or in a process of its own. Returns what it printed: on standard output,
    or on the other one if it fails."""
    done = (run_newswire if apart else call_newswire)("log", *arguments, folder=folder, environment=environment)
    assert done.returncode == status, done.stderr.decode()
    return (done.stderr if status and not done.stdout else done.stdout).decode()


def fill(url: str, count: int = 5) -> None:
    """Publish events, some of them internal."""

    async def work() -> None:
        log = open_log(url, retention=Retention())
        for number in range(count):
            await log.append([("news", Event(f"event {number}", "note"))])
        await log.append([("$internal", Event("hidden"))])
        await log.close()

    anyio.run(work)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a log of six events."""
    fill(f"sqlite:///{tmp_path}/newswire.db")
    return tmp_path


def test_init_says_what_it_did(tmp_path: Path) -> None:
    """Once it makes the log; then, and for ever, it finds it."""
    first, again = log(tmp_path, "init", apart=True), log(tmp_path, "init", apart=True)
    assert first.startswith(f"made {tmp_path}/newswire.db, a log in its life ")
    assert again.startswith(f"{tmp_path}/newswire.db is there, in format ")
    assert first.split()[-1] == again.split()[-1]
    connection = sqlite3.connect(tmp_path / "newswire.db")
    assert connection.execute("SELECT epoch FROM newswire_meta").fetchone()[0] == first.split()[-1]
    connection.close()


def test_no_other_command_makes_a_log(tmp_path: Path) -> None:
    """A slip in a path must not look like an empty log."""
    for command in ("info", "trim", "verify", "tail"):
        said = log(tmp_path, command, "--log", "sqlite:///slip.db", status=1, apart=True)
        assert said == "Error: there is no file slip.db: `newswire log init` makes it\n"
    assert list(tmp_path.iterdir()) == []


def test_no_other_command_makes_a_log_on_a_server(
    valkey: Valkey, nats: Nats, postgres: Postgres, tmp_path: Path
) -> None:
    """A slip in a namespace must not look like an empty log either, nor leave one behind."""
    name = token_hex(6)
    for server in (valkey, nats, postgres):
        url = f"{server.url}?namespace={name}"
        for command in ("info", "trim", "verify", "tail") if server is valkey else ("info",):
            said = log(tmp_path, command, "--log", url, status=1)
            assert said.startswith("Error: there is no log ")
            assert said.endswith(": run `newswire log init`\n")
        said = log(tmp_path, "copy", "--from", url, "--to", "sqlite:///copy.db", status=1)
        assert said.startswith("Error: there is no log ")
        assert log(tmp_path, "init", f"{url}&create=0").startswith("made the ")
        assert log(tmp_path, "init", url).startswith("the log is there ")
        assert json.loads(log(tmp_path, "info", "--json", url))["latest"] == 0


def test_info_for_people_and_as_json(folder: Path) -> None:
    """Both say the same; the log is found as `newswire serve` finds it."""
    shown = log(folder, "info", apart=True)
    found = json.loads(log(folder, "info", "--json", NEWSWIRE_LOG=f"sqlite:///{folder}/newswire.db"))
    epoch = found["epoch"]
    assert f"{epoch}-1 to {epoch}-6" in shown
    assert (found["earliest"], found["latest"], found["events"]) == (0, 6, 6)
    assert found["durability"]["synchronous"] == "FULL"
    assert found["warnings"] == []
    assert found["lives"] == [{"epoch": epoch, "after": 0}]
    assert found["retention"].startswith(">:max_age=604800")
    assert "No acknowledged event is lost" in shown
    assert "each channel for 7 days (by a server with the settings that are here)" in shown
    (folder / "newswire.toml").write_text('log = "sqlite:///newswire.db?synchronous=NORMAL"\nretention = "none"\n')
    found = json.loads(log(folder, "info", "--json"))
    assert found["durability"]["synchronous"] == "NORMAL"
    assert found["retention"].startswith("everything")
    [warning] = found["warnings"]
    assert warning.startswith("a power cut, or a crash of the machine, can take the newest events")


def test_info_tells_what_a_valkey_server_is_really_set_to(tmp_path: Path) -> None:
    """Its settings as they are now, and a warning for each way in which an acknowledged event can be lost."""
    with Valkey("--requirepass", "hunter2", "--appendonly", "yes") as server:
        url = f"redis://:hunter2@127.0.0.1:{server.port}/0"

        def look(*settings: str) -> tuple[dict[str, str], str]:
            async def configure() -> None:
                from redis.asyncio import Redis

                async with Redis.from_url(url) as client:
                    for name, value in zip(settings[::2], settings[1::2], strict=True):
                        await client.config_set(name, value)

            anyio.run(configure)
            text = log(tmp_path, "info", url, "--json")
            assert "hunter2" not in text
            found = json.loads(text)
            return found["durability"], "\n".join(found["warnings"])

        assert log(tmp_path, "init", url).startswith("made the log on 127.0.0.1:")
        assert log(tmp_path, "init", url).startswith("the log is there on 127.0.0.1:")
        durability, warnings = look()
        assert (durability["appendonly"], durability["appendfsync"]) == ("yes", "everysec")
        assert "the last two seconds" in warnings
        assert look("appendfsync", "always")[1] == ""
        assert "what the kernel has not written yet" in look("appendfsync", "no")[1]
        assert "gone when the server's process ends" in look("appendonly", "no", "save", "")[1]
        durability, warnings = look("save", "3600 1", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
        assert durability["save"] == "3600 1"
        assert "since the last snapshot (save 3600 1)" in warnings
        assert "throws events away when its memory is full: allkeys-lru" in warnings
        assert "hunter2" not in log(tmp_path, "info", url)


def test_trim_removes_what_its_rules_say(folder: Path) -> None:
    """Internal channels stay, as with the server."""
    assert log(folder, "trim").startswith("0 events removed; ")
    assert "'' can't be used" in log(folder, "trim", "--retention", "", status=2)
    said = log(folder, "trim", "--retention", ">:max_events=2")
    assert said.startswith("3 events removed; ")
    assert [line["data"] for line in lines(folder, "news", "$internal")] == ["event 3", "event 4", "hidden"]
    assert "can't be used: give rules PATTERN:LIMITS" in log(folder, "trim", "--retention", "nonsense", status=2)


def lines(folder: Path, *arguments: str) -> list[dict[str, str]]:
    """What `log tail` prints of what is there."""
    text = log(folder, "tail", *arguments, "--from", "earliest", "--no-follow", "--json")
    return [json.loads(line) for line in text.splitlines()]


def test_tail_prints_what_is_there(folder: Path) -> None:
    """All channels but internal ones, unless they are named; from any place, and not more than was wanted."""
    found = lines(folder)
    assert [line["data"] for line in found] == [f"event {number}" for number in range(5)]
    assert (found[0]["channel"], found[0]["event"]) == ("news", "note")
    assert [line["data"] for line in lines(folder, "$internal")] == ["hidden"]
    assert [line["data"] for line in lines(folder, "-n", "2")] == ["event 0", "event 1"]
    after = log(folder, "tail", "--from", found[2]["id"], "--no-follow", "--raw")
    assert after.splitlines() == ["event 3", "event 4"]
    assert "is no position of this log" in log(folder, "tail", "--from", "other-3", "--no-follow", status=1)
    assert "is not a position" in log(folder, "tail", "--from", "other", status=2)
    said = log(folder, "tail", "redis://:secret@localhost/0", status=2)
    assert "'redis://localhost/0' is the URL of a log, and no channel: give it by --log" in said


def test_tail_refuses_a_position_past_what_there_is(folder: Path) -> None:
    """Of the log's end, or of what a restored log has kept of an earlier life; events would be missing unseen."""
    epoch = json.loads(log(folder, "info", "--json"))["epoch"]

    async def restore() -> None:
        copy = open_log(f"sqlite:///{folder}/copy.db", retention=Retention())
        entries = [Entry(offset, "news", "message", f"event {offset}", 1.0) for offset in range(1, 8)]
        lives = Lives([Life(epoch, 0), Life("later", 3)])
        await copy.restore(Copied(entries=entries, through=7, lives=lives))
        await copy.close()

    anyio.run(restore)
    begin = ("tail", "--no-follow", "--raw", "--log", f"sqlite:///{folder}/copy.db", "--from")
    for past, end in ((f"{epoch}-6", "later-3"), ("later-8", "later-7")):
        said = log(folder, *begin, past, status=1)
        assert said == f"Error: {past} is past what this log has: --from {end} begins at the end of that\n"
    assert log(folder, *begin, f"{epoch}-3").splitlines() == [f"event {offset}" for offset in range(4, 8)]


def test_tail_follows_until_it_is_interrupted(folder: Path) -> None:
    """What another process stores comes at once; Ctrl-C ends it in order."""
    command = [NEWSWIRE, "log", "tail", "--from", "earliest", "--raw"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stdout is not None
        for number in range(5):
            assert process.stdout.readline() == f"event {number}\n".encode()
        fill(f"sqlite:///{folder}/newswire.db", 1)
        assert process.stdout.readline() == b"event 0\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 0


def test_verify_ends_with_1_if_something_is_wrong(folder: Path) -> None:
    """And says what."""
    assert "6 events of 2 channels" in log(folder, "verify", apart=True)
    assert json.loads(log(folder, "verify", "--json"))["findings"] == []
    connection = sqlite3.connect(folder / "newswire.db")
    with connection:
        connection.execute("UPDATE newswire_events SET time = -1 WHERE offset = 3")
    connection.close()
    assert "wrong: event 3 has a time that can't be" in log(folder, "verify", status=1, apart=True)


def test_a_log_that_can_t_be_used_is_one_sentence(tmp_path: Path) -> None:
    """Without a password in it; a log in memory is no other process's business."""
    said = log(tmp_path, "info", "redis://ada:hunter2@127.0.0.1:1/0", status=1)
    assert said.startswith("Error: the server 127.0.0.1:1 (newswire) can't be reached")
    assert said.count("\n") == 1
    assert "hunter2" not in said
    assert "is the log of one process" in log(tmp_path, "info", "memory://", status=1)
    assert "has no ftp:// log" in log(tmp_path, "info", "ftp://ada:hunter2@host/", status=1)


def test_info_tells_what_nats_and_postgresql_are_really_set_to(nats: Nats, postgres: Postgres, tmp_path: Path) -> None:
    """The tests' PostgreSQL runs without fsync; what a NATS server syncs only its system account knows."""
    for server, made, setting, value, risk in (
        (nats, "made the stream", "replicas", "1", "sync_interval: always"),
        (postgres, "made the tables", "fsync", "off", "fsync is off. Set fsync on"),
    ):
        url = f"{server.url}?namespace=info{os.getpid()}"
        assert log(tmp_path, "init", url).startswith(made)
        assert log(tmp_path, "init", url).startswith("the log is there")
        fill(url)
        found = json.loads(log(tmp_path, "info", url, "--json"))
        assert (found["events"], found["latest"], found["durability"][setting]) == (6, 6, value)
        assert risk in "\n".join(found["warnings"])
        assert "6 events of 2 channels" in log(tmp_path, "verify", url)
        assert [line["data"] for line in lines(tmp_path, "--log", url)] == [f"event {number}" for number in range(5)]
