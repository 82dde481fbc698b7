"""`newswire tail`: forms of output, going on where it left off, and a quiet end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.fixtures.serve import NEWSWIRE, PATIENCE, Serve, clean_environment


@contextmanager
def tailing(server: Serve, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `tail` in the background, its output in pipes."""
    command: Sequence[str] = [str(NEWSWIRE), "tail", *arguments, "--url", server.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment())
    with process:
        yield process
        if process.poll() is None:
            process.kill()


def lines(process: subprocess.Popen[bytes], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().decode().rstrip("\n") for _ in range(count)]


def test_the_forms_of_an_event(server: Serve) -> None:
    """For people, as JSON, and the data alone."""
    id = server.publish("form", "two\nlines", event="note")
    end = ("form", "--from", "earliest", "-n", "1")
    assert server.run("tail", *end).stdout.decode() == f"{id}\tform\tnote\ttwo\n\t\t\tlines\n"
    assert server.run("tail", *end, "--raw").stdout == b"two\nlines\n"
    assert json.loads(server.run("tail", *end, "--json").stdout) == {
        "id": id, "channel": "form", "event": "note", "data": "two\nlines",
    }  # fmt: skip


def test_channels_patterns_and_urls_together(server: Serve) -> None:
    """Each event says where it came from; only the types in --event come."""
    server.publish("many.a", "1")
    server.publish("many.b", "2", event="wanted")
    server.publish("else", "3", event="wanted")
    done = server.run(
        "tail", "many.*", f"{server.url}/stream?channel=else&from=earliest", "--from", "earliest", "--event", "wanted",
        "--json", "-n", "2",
    )  # fmt: skip
    assert sorted(json.loads(line)["data"] for line in done.stdout.splitlines()) == ["2", "3"]


def test_every_line_is_there_at_once_and_ctrl_c_is_quiet(server: Serve) -> None:
    """In a pipe too."""
    with tailing(server, "live", "--from", "earliest", "--raw") as process:
        for data in ("a", "b"):
            server.publish("live", data)
            assert lines(process, 1) == [data]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert (out, err, process.returncode) == (b"", b"", 130)


def test_a_reader_that_has_enough_ends_it_quietly(server: Serve) -> None:
    """`newswire tail … | head -1`"""
    for n in range(50):
        server.publish("head", str(n))
    command = f"'{NEWSWIRE}' tail head --from earliest --raw --url {server.url} | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=PATIENCE, env=clean_environment())
    assert (done.stdout, done.stderr) == (b"0\n", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_cursor_file_holds_what_was_printed(server: Serve, tmp_path: Path, number: int) -> None:
    """Stopped by a signal and started again: each event once, the last one too."""
    channel, cursor = f"cursor.{int(number)}", str(tmp_path / "cursor")
    for n in range(3):
        server.publish(channel, str(n))
    flags = (channel, "--from", "earliest", "--raw", "--cursor", cursor)
    with tailing(server, *flags) as process:
        assert lines(process, 3) == ["0", "1", "2"]
        process.send_signal(number)
        process.wait(PATIENCE)
    server.publish(channel, "3")
    assert server.run("tail", *flags, "-n", "1").stdout == b"3\n"


def test_it_goes_on_over_a_restart_of_the_server(tmp_path: Path) -> None:
    """kill -9: it says so, comes back, and misses nothing."""
    with Serve(tmp_path) as server, tailing(server, "back", "--from", "earliest", "--raw") as process:
        server.publish("back", "before")
        assert lines(process, 1) == ["before"]
        server.stop(signal.SIGKILL)
        server.start()
        server.publish("back", "after")
        assert lines(process, 1) == ["after"]
        process.send_signal(signal.SIGINT)
        assert b"trying again" in process.communicate(timeout=PATIENCE)[1]


def test_a_gap_is_told_beside_the_events(server: Serve) -> None:
    """On standard error, in every form."""
    server.publish("gap", "kept")
    url = f"{server.url}/channels/gap?last_event_id=junk"
    done = server.run("tail", url, "-n", "2", "--raw", "--stats")
    assert b"events are missing here" in done.stderr
    assert b", 1 gap\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("a b",), 1, "forbidden"),
        (("{url}/nothing",), 1, "404"),
        (("{url}/health/live",), 1, "text/event-stream"),
        (("a", "--json", "--raw"), 2, "choose one"),
        (("a", "{url}/channels/b", "--cursor", "c"), 2, "one by one"),
        (("a", "--header", "nonsense"), 2, "NAME: VALUE"),
        (("a", "--data", "@missing"), 2, "missing"),
        (("a", "--cursor", "none/c"), 1, "Error: --cursor none/c can't be used: no such file or directory"),
        (("{url}/channels/a?last_event_id=x", "--cursor", "c" * 250), 1, "c can't be used: file name too long"),
        (("ftp://x",), 1, "http://"),
    ],
)
def test_what_can_not_be_watched_is_said(server: Serve, arguments: tuple[str, ...], status: int, says: str) -> None:
    """In a sentence, with a status."""
    done = server.run("tail", *(argument.replace("{url}", server.url) for argument in arguments))
    assert done.returncode == status
    assert says in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_terminal_gets_colours_and_no_control_characters(server: Serve) -> None:
    """A publisher can't move a terminal's cursor."""
    server.publish("colour", b"safe \x1b[2J\x07 text", event="note")
    main, other = pty.openpty()
    command = [str(NEWSWIRE), "tail", "colour", "--from", "earliest", "-n", "1", "--url", server.url]
    subprocess.run(command, stdout=other, env=clean_environment(), timeout=PATIENCE, check=True)
    os.close(other)
    drawn = b""
    while not drawn.endswith(b"\n"):
        drawn += os.read(main, 65536)
    os.close(main)
    assert b"safe \\x1b[2J\\x07 text" in drawn
    assert b"\x1b[33mnote\x1b[0m" in drawn
