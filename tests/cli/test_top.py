"""`newswire top`: what a server does now."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from tests.fixtures.ports import free_port
from tests.fixtures.serve import Reader, Serve, call_newswire
from tests.fixtures.terminal import Terminal

from newswire.cli.top import ServerSnapshot, view
from newswire.server.auth import new_token

SECRET = "a secret of sixty-four bytes, which is as long as HS512 wants it to be"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server that asks for credentials, with two streams of one user."""
    with Serve(tmp_path_factory.mktemp("top"), "--jwt-secret", SECRET, "--anonymous", "news") as server:
        ada = {"authorization": f"Bearer {new_token(SECRET, subject='ada', subscribe=['>'])}"}
        with (
            Reader(f"{server.url}/channels/orders.eu", headers=ada) as one,
            Reader(f"{server.url}/channels/news") as two,
        ):
            one.opened()
            two.opened()
            yield server


def admin() -> str:
    return new_token(SECRET, subject="root", admin=True)


@pytest.mark.slow
def test_one_picture_in_a_pipe(guarded: Serve) -> None:
    """Numbers, channels and streams with their users, as plain text; `--subject` and `--channel` choose streams."""
    done = guarded.run("top", "--once", "--token", admin())
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout.decode()
    assert lines[0].startswith(f"newswire top  {guarded.url}  log sqlite, up")
    assert lines[1].startswith("2 streams   0 stalled")
    [stream] = [line.split() for line in lines if "ada" in line]
    assert stream[:5] == ["orders.eu", "ada", "127.0.0.1", "live", "0"]
    chosen = guarded.call("top", "--once", "--token", admin(), "--channel", "news").stdout.decode()
    assert "ada" not in chosen
    assert "127.0.0.1  live" in chosen
    assert "no stream is open" in guarded.call("top", "--once", "--token", admin(), "--subject", "eve").stdout.decode()


@pytest.mark.slow
def test_in_a_terminal_q_ends_it(guarded: Serve) -> None:
    """It takes the whole screen, draws again, and gives the screen back."""
    more = {"NEWSWIRE_URL": guarded.url, "NEWSWIRE_TOKEN": admin(), "LINES": "24"}
    with Terminal("top", "--interval", "0.2", environment=more) as terminal:
        terminal.until("q quits")
        terminal.until("/s\x1b[0m delivered")  # a rate needs two pictures
        terminal.press("q")
        assert terminal.end(None) == 0
        assert "ada" in terminal.drawn
        assert "\x1b[?1049l" in terminal.drawn  # the screen of before
    with Terminal("top", environment=more) as terminal:
        terminal.until("q quits")
        assert terminal.end() == 0  # Ctrl-C


@pytest.mark.slow
def test_what_it_may_not_see_and_what_is_not_there(guarded: Serve, tmp_path: Path) -> None:
    """One sentence each, with what to do, and a status of its own."""
    done = guarded.call("top", "--once")
    assert done.returncode == 1
    assert b"a credential is needed" in done.stderr
    assert b"--token" in done.stderr
    done = guarded.call("top", "--once", "--token", admin(), "--channel", "a..b")
    assert done.returncode == 1
    assert b"a..b" in done.stderr
    done = call_newswire("top", "--once", "--url", f"http://127.0.0.1:{free_port()}", folder=tmp_path)
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"can't be reached (connection refused)" in done.stderr
    done = call_newswire("top", "--url", "localhost:8000", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")


def test_the_picture_fits_and_shows_what_needs_a_look_first() -> None:
    """Streams that are stalled or behind come before the others; no text from outside steers the terminal."""
    stats = {
        "worker": "1", "workers": 2, "started": 0.0, "now": 100.0, "log": "sqlite\x9b", "log_state": "behind", "lag": 7,
        "subscribers": 60, "stalled": 1, "delivered": 500, "gaps": 2, "kept": None, "recent": [[99, 5]],
        "channels": [{"name": f"c{n}", "subscribers": n, "events": n, "seen": 10 * n, "last": 1.0} for n in range(50)],
    }  # fmt: skip
    stream = {
        "channels": ["a\x1b[2J"],
        "subject": "eve\nx",
        "address": "[red]\x1b[2J",
        "since": 40.0,
        "state": "live",
        "behind": 0,
    }
    streams = [dict(stream) for _ in range(59)] + [{**stream, "state": "stalled", "behind": 12, "more_channels": 3}]
    before = ServerSnapshot("http://x", {**stats, "now": 99.0, "delivered": 400, "channels": []}, [])
    snapshot = ServerSnapshot("http://x", stats, streams, True, before)
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(view(snapshot, height=30))
    lines = console.export_text().splitlines()
    console.file.close()
    assert len(lines) <= 30
    assert "7 events behind" in lines[0]
    assert "5/s published   100/s delivered" in lines[1]
    [head] = [number for number, line in enumerate(lines) if line.startswith("stream ")]
    assert "stalled" in lines[head + 1]
    assert "a\\x1b[2J and 3 more" in lines[head + 1]
    assert "eve\\x0ax" in lines[head + 2]
    assert "[red]\\x1b[2J" in lines[head + 2]
    assert "log sqlite\\x9b" in lines[0]
    assert any(line.startswith("more: newswire top --channel") for line in lines)


def test_one_of_each_and_no_password() -> None:
    """The numbers read as words do, and a password in the server's URL stays out of the picture."""
    stats = {
        "workers": 1, "started": 0.0, "now": 100.0, "log": "sqlite", "log_state": "up", "lag": 0, "recent": [],
        "subscribers": 1, "stalled": 1, "delivered": 1, "gaps": 1, "kept": 1, "channels": [],
    }  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(view(ServerSnapshot("http://ada:hunter2@x", stats, []), height=30))
    head, numbers, *_ = console.export_text().splitlines()
    assert head.startswith("newswire top  http://x  log sqlite, up")
    assert numbers.rstrip() == "1 stream   1 stalled   0/s published   – delivered   1 event kept   1 gap"
