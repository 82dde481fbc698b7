"""The commands in a terminal: signs of life, plain words, colours where they are wanted, and nothing that steers it."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.ports import free_port, wait_for
from tests.fixtures.serve import NEWSWIRE, Serve, call_newswire, clean_environment, run_newswire
from tests.fixtures.terminal import Terminal

STEERING = "\x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp.exe\u2066 \x7f\u200f"
UNSAFE = ("\x1b[2J", "\x1b]", "\x07", "\x9b", "\u202e", "\u2066", "\x7f", "\u200f")


def is_safe(text: str | bytes) -> bool:
    """Whether a terminal would show all of it, and obey nothing."""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return not any(mark in shown for mark in UNSAFE)


@contextmanager
def evil(status: int, body: bytes, content_type: str) -> Iterator[str]:
    """A server that answers everything with the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response_only(status, "Evil\x1b[2J")
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_tail_says_what_it_waits_for_and_how_to_stop(server: Serve) -> None:
    """An empty screen would look as if it hung; Ctrl-C is quiet."""
    with Terminal("tail", "quiet", "other.*", "--url", server.url) as terminal:
        terminal.until(f"waiting for quiet, other.* on {server.url}; Ctrl-C stops")
        assert terminal.end() == 130
        assert "Traceback" not in terminal.drawn


def test_tail_says_when_the_server_is_away_and_when_it_is_back(tmp_path: Path) -> None:
    """In plain words, with what to do; nothing is lost."""
    port = free_port()
    with Terminal("tail", "back", "--from", "earliest", "--url", f"http://127.0.0.1:{port}") as terminal:
        said = terminal.until("Trying again in")
        assert f"http://127.0.0.1:{port} can't be reached (connection refused): is `newswire serve` running" in said
        with Serve(tmp_path, port=port) as server:
            terminal.until(f"connected again to {server.url}")
            server.publish("back", "first")
            terminal.until("first")
            server.stop(signal.SIGKILL)
            terminal.until("broke")
            terminal.drawn = ""
            server.start()
            terminal.until("connected again")
            server.publish("back", "second")
            terminal.until("second")
        assert "incomplete chunked read" not in terminal.drawn
        assert "attempts failed" not in terminal.drawn


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color_is_obeyed(server: Serve, tmp_path: Path, variables: dict[str, str]) -> None:
    """By every command: not one escape sequence."""
    server.publish("plain", "two\nlines", event="note")
    end = ("--from", "earliest", "-n", "1", "--stats", "--url", server.url)
    with Terminal("tail", "plain", *end, environment=variables) as terminal:
        assert terminal.end(None) == 0
        assert "plain\tnote\ttwo" in terminal.drawn
        assert "\x1b" not in terminal.drawn
    with Terminal("publish", "plain", "x", "--url", server.url, environment=variables) as terminal:
        assert terminal.end(None) == 0
        assert "\x1b" not in terminal.drawn
    (tmp_path / "app.py").write_text("async def app(scope, receive, send): pass\n")
    for command in (("serve",), ("run", "app:app"), ("relay", "--upstream", "http://127.0.0.1:9")):
        with Terminal(*command, "--port", "0", folder=tmp_path, environment=variables) as terminal:
            terminal.until("Ctrl-C stops it")
            assert terminal.end() == 0
            assert "\x1b" not in terminal.drawn
    with Terminal("serve", "--show-config", folder=tmp_path, environment=variables) as terminal:
        assert terminal.end(None) == 0
        assert "\x1b" not in terminal.drawn


def test_a_stop_is_confirmed_with_its_streams(tmp_path: Path) -> None:
    """One that was open ends in order, and its reader says that it comes back."""
    port = str(free_port())
    with Terminal("serve", "--port", port, folder=tmp_path) as serve:
        serve.until("Ctrl-C stops it")
        with Terminal("tail", "a", "--from", "earliest", "--url", f"http://127.0.0.1:{port}") as tail:
            run_newswire("publish", "a", "x", "--url", f"http://127.0.0.1:{port}", folder=tmp_path)
            tail.until("x")
            assert serve.end() == 0
            assert "stopped; 1 stream ended in order" in serve.drawn
    with Terminal("serve", "--port", port, folder=tmp_path) as serve:
        run_newswire("publish", "a", "x", "--wait", "20", "--url", f"http://127.0.0.1:{port}", folder=tmp_path)
        assert serve.end() == 0
        assert "stopped" in serve.drawn


def test_events_can_not_steer_a_terminal(server: Serve) -> None:
    """In no form, in a terminal and in a pipe; what is JSON holds the very same text."""
    server.publish("steer", STEERING, event="n\x1bote\u202e")
    arguments = ("tail", "steer", "--from", "earliest", "-n", "1", "--url", server.url)
    for form in ((), ("--json",), ("--raw",)):
        with Terminal(*arguments, *form) as terminal:
            assert terminal.end(None) == 0
            assert is_safe(terminal.drawn), form
    assert is_safe(server.run(*arguments).stdout)
    found = server.run(*arguments, "--json").stdout
    assert is_safe(found)
    assert json.loads(found)["data"] == STEERING
    assert server.run(*arguments, "--raw").stdout == STEERING.encode() + b"\n"  # to the byte, for programs


@pytest.mark.parametrize("status", [200, 403, 503])
def test_what_a_server_says_can_not_steer_a_terminal(tmp_path: Path, status: int) -> None:
    """A problem's text, a body that is none, an id."""
    problem = json.dumps({"detail": STEERING, "title": STEERING, "id": STEERING}).encode()
    for body, kind in ((problem, "application/problem+json"), (STEERING.encode(), "text/plain")):
        with evil(status, body, kind) as url:
            commands = (
                ("publish", "a", "x"), ("publish", "a", "x", "--wait", "0.1"), ("tail", "a", "-n", "1"),
            ) if status != 503 else (("publish", "a", "x"), ("publish", "a", "x", "--wait", "0.1"))  # fmt: skip
            for command in commands:
                run = call_newswire if command[0] == "publish" else run_newswire
                done = run(*command, "--url", url, folder=tmp_path)
                assert is_safe(done.stderr + done.stdout), done
                assert b"Traceback" not in done.stderr


def test_a_gap_can_not_steer_a_terminal(tmp_path: Path) -> None:
    """Nor can what an event stream of somebody else's says of its losses, nor a URL with a password."""
    stream = f"event: newswire.gap\ndata: {STEERING}\n\ndata: end\n\n".encode()
    with evil(200, stream, "text/event-stream") as url:
        url = url.replace("//", "//ada:hunter2@")
        done = run_newswire("tail", url, "-n", "2", folder=tmp_path)
        assert is_safe(done.stderr + done.stdout)
        assert b"events are missing here" in done.stderr
    with Terminal("tail", f"http://ada:hunter2@127.0.0.1:{free_port()}/x") as terminal:
        terminal.until("rying again")
        terminal.end()
        assert "hunter2" not in terminal.drawn


def test_waiting_says_how_long_and_not_the_same_line(tmp_path: Path) -> None:
    """The reason once, then what is left of the time."""
    url = f"http://127.0.0.1:{free_port()}"
    done = run_newswire("publish", "a", "x", "--wait", "6s", "--url", url, folder=tmp_path)
    assert done.returncode == 3
    lines = done.stderr.decode().splitlines()
    assert len(lines) == len(set(lines)) == 3
    assert "Trying again for 6 s." in lines[0]
    assert "still trying, for 1 s more" in lines[1]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_shell_that_has_closed_the_output(closed: str) -> None:
    """A command that has nowhere to write ends as it would."""
    done = subprocess.run(["sh", "-c", f'exec "$0" --version {closed}', str(NEWSWIRE)], check=False, timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize("arguments", [("tail", "full", "--from", "earliest"), ("top", "--once")])
def test_a_full_disk_takes_no_output(server: Serve, arguments: tuple[str, ...]) -> None:
    """One sentence says so, and no stack trace."""
    server.publish("full", "x")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [str(NEWSWIRE), *arguments, "--url", server.url],
            stdout=full,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"newswire: the output can't be written: no space left on device\n"


@pytest.mark.parametrize("output", [">/dev/full", "| true"])
def test_an_event_whose_id_cannot_be_printed_is_stored(server: Serve, output: str) -> None:
    """Standard error has its id, and the status tells this from an event that was refused."""
    command = f"sleep 0 | '{NEWSWIRE}' publish unprinted x --url {server.url} {output}; exit ${{PIPESTATUS[1]}}"
    before = server.stored("unprinted")
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=clean_environment(), timeout=30, check=False
    )
    assert server.stored("unprinted") == [*before, "x"]
    assert done.returncode == 4
    [end] = httpx2.get(f"{server.url}/channels/unprinted/events?last=1").json()["events"]
    why = "no space left on device" if "full" in output else "broken pipe"
    assert done.stderr == f"newswire: the event is stored as {end['id']}, but the output can't be written: {why}\n"


def test_work_that_is_done_is_told_though_the_output_is_full(tmp_path: Path) -> None:
    """A file that was written, a key that was added: the command can't be run again as if nothing had happened."""
    with open("/dev/full", "wb") as full:
        for arguments, told in (
            (("init",), "newswire.toml is written, but"),
            (("key", "--sub", "a", "--publish", "b", "--file", "keys"), "keys has the line of a key that is lost now"),
        ):
            done = subprocess.run(
                [NEWSWIRE, *arguments], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30,
                env=clean_environment(), check=False,
            )  # fmt: skip
            assert done.returncode == 1
            assert told in done.stderr
            assert done.stderr.endswith("the output can't be written: no space left on device\n")
            assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_standard_stream_that_is_closed_or_full_changes_nothing(server: Serve, closed: str) -> None:
    """What would be shown there is lost; the work is done, and the status is what it would be."""
    server.publish("closed", "x")
    one = f"'{NEWSWIRE}' %s --url {server.url} {closed}"
    statuses = []
    for command in ("publish closed", "tail closed --from earliest -n 1 --stats", "top --once", "publish closed ''"):
        done = subprocess.run(
            ["bash", "-c", one % command], input="x\n", capture_output=True, text=True, env=clean_environment(),
            timeout=30, check=False,
        )  # fmt: skip
        statuses.append(done.returncode)
        assert "Traceback" not in done.stderr
    assert statuses == [0, 0, 0, 2]


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">/dev/full", "2> >(true)"])
def test_a_server_needs_no_output(tmp_path: Path, closed: str) -> None:
    """It starts and serves though what it says can't be written, as on a disk that is full; that is no news."""
    port = free_port()
    command = f"exec '{NEWSWIRE}' serve --port {port} --access-log {closed}"
    with subprocess.Popen(
        ["bash", "-c", command], cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE
    ) as process:
        try:
            wait_for(port, process, 30)
            url = f"http://127.0.0.1:{port}/channels/a"
            assert httpx2.post(url, content="x", timeout=30).status_code == 200
            assert httpx2.get(f"{url}/events", timeout=30).json()["events"][0]["data"] == "x"
        finally:
            process.terminate()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 0


def test_the_reader_of_a_picture_has_enough(server: Serve) -> None:
    """`newswire top | head -1` is no failure."""
    command = f"'{NEWSWIRE}' top --url {server.url} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=clean_environment(), timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("newswire top")


@pytest.mark.parametrize(
    "arguments", [("doctor", "{url}/channels/a"), ("publish", "a", "x", "--wait", "60s", "--url", "{none}")]
)
def test_ctrl_c_has_a_status_of_its_own(server: Serve, arguments: tuple[str, ...]) -> None:
    """Not that of findings, or of an event that was refused."""
    none = f"http://127.0.0.1:{free_port()}"
    command = [each.replace("{url}", server.url).replace("{none}", none) for each in arguments]
    with subprocess.Popen([NEWSWIRE, *command], stderr=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stderr is not None
        process.stderr.readline()  # it has begun
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(30) == 130
    assert b"Aborted" not in said
    assert b"Traceback" not in said
