"""`newswire publish`: what is stored, the message when something fails, and the exit status."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner
from tests.fixtures.ports import free_port
from tests.fixtures.serve import NEWSWIRE, PATIENCE, Serve, call_newswire, clean_environment
from tests.fixtures.tcp_proxy import TcpProxy

from newswire.cli.main import newswire
from newswire.cli.publish import Failed, Line, Upload


def test_an_argument_is_one_event_and_its_id_is_printed(server: Serve) -> None:
    """Its text as it is, line ends too."""
    done = server.run("publish", "one", "two\nlines: ü", "--event", "note")
    events = httpx2.get(f"{server.url}/channels/one/events").json()["events"]
    assert done.stdout.decode().strip() == events[0]["id"]
    assert (events[0]["event"], events[0]["data"]) == ("note", "two\nlines: ü")


def test_each_line_is_an_event_in_order(server: Serve) -> None:
    """Thousands go in batches; empty lines are none."""
    done = server.run("publish", "lines", stdin=b"\n".join(str(n).encode() for n in range(900)) + b"\n\n\r\nlast\r\n")
    assert done.returncode == 0
    assert done.stderr.decode().startswith("901 events stored, the last as ")
    assert server.stored("lines") == [*(str(n) for n in range(900)), "last"]


def test_ndjson_lines_bring_their_type(server: Serve) -> None:
    """Lines without one get the option's."""
    lines = [{"data": "a"}, {"data": {"n": 1}, "event": "own"}]
    server.run("publish", "nd", "--ndjson", "--event", "given", stdin="\n".join(map(json.dumps, lines)).encode())
    events = httpx2.get(f"{server.url}/channels/nd/events").json()["events"]
    assert [(event["event"], event["data"]) for event in events] == [("given", "a"), ("own", '{"n":1}')]


def test_a_bad_line_is_named_by_its_number_in_the_input(server: Serve) -> None:
    """What came before in its batch is not stored, and the command says where to go on."""
    lines = [b'{"data": 1}'] * 700 + [b"", b"{oops}"] + [b'{"data": 1}'] * 9
    done = server.run("publish", "bad", "--ndjson", stdin=b"\n".join(lines))
    said = done.stderr.decode()
    assert done.returncode == 1
    assert said.startswith("newswire: line 702 of the input is not JSON: ")
    stored = len(server.stored("bad"))
    assert f"{stored} events are stored" in said
    assert f"Correct line 702. Go on with line {stored + 1}: tail -n +{stored + 1} FILE" in said
    assert "othing was stored" not in said


@pytest.mark.parametrize("line", [b"{oops}", b'{"dta": 1}', b"7", b'{"data": NaN}', b'{"data": "x", "event": "error"}'])
def test_a_bad_line_is_told_once_with_its_one_number(server: Serve, line: bytes) -> None:
    """What is wrong, that nothing is stored, and what to do: to do the same again would not help."""
    done = server.run("publish", "bad2", "--ndjson", stdin=b'{"data": 1}\n' + line + b"\n")
    said = done.stderr.decode()
    assert done.returncode == 1
    assert said.startswith("newswire: line 2 of the input ")
    assert said.endswith("\nNothing is stored.\nCorrect line 2. Then publish all of it again.\n")
    assert set(re.findall(r"line (\d+)", said)) == {"2"}
    assert server.stored("bad2") == []


def test_what_is_empty_is_no_event(server: Serve) -> None:
    """One rule for an argument and for a line; --ndjson can express it."""
    for empty in ("", " ", "\n"):
        done = server.call("publish", "empty", empty)
        assert done.returncode == 2
        assert b"DATA is empty" in done.stderr
    assert server.run("publish", "empty", stdin=b"\n \n\t\r\n").returncode == 0
    assert server.stored("empty") == []
    assert server.run("publish", "empty", "--ndjson", stdin=b'{"data": ""}').returncode == 0
    assert server.stored("empty") == [""]


def test_a_refusal_says_why(server: Serve) -> None:
    """In the server's words, with status 1."""
    for arguments, says in (
        (("a b", "x"), "forbidden"),
        (("a", "x", "--event", "error"), "reserved"),
        (("a/b", "x"), "slash"),
    ):
        done = server.call("publish", *arguments)
        assert done.returncode == 1
        assert says in done.stderr.decode()
    done = server.run("publish", "a", stdin=b"ok\n\xff\n")
    assert "line 2 is not UTF-8" in done.stderr.decode()


def test_batches_fit_a_server_with_a_small_limit(tmp_path: Path) -> None:
    """What is too large as a whole goes in parts; what is too large alone is refused."""
    with Serve(tmp_path, "--max-body", "1KiB") as server:
        lines = [b"x" * 100] * 60
        assert server.run("publish", "small", stdin=b"\n".join(lines)).returncode == 0
        assert len(server.stored("small")) == 60
        done = server.run("publish", "large", stdin=b"ok\n" + b"x" * 2000)
        assert done.returncode == 1
        assert server.stored("large") == ["ok"]
        assert done.stderr.startswith(b"newswire: line 2 of the input is too large: the body's size")
        assert "Correct line 2. Go on with line 2:" in done.stderr.decode()


def test_a_server_that_is_not_there_is_status_3(tmp_path: Path) -> None:
    """Trying again may help, as a script can tell."""
    done = call_newswire("publish", "a", "x", "--url", f"http://127.0.0.1:{free_port()}", folder=tmp_path)
    assert done.returncode == 3
    assert "is `newswire serve` running there?" in done.stderr.decode()


def test_a_server_of_another_kind_is_named() -> None:
    """By its address, without a password in it, with what it says and what to check."""

    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b"no such\n page")

        do_GET = do_POST

        def log_message(self, *args: object) -> None:
            """Nothing, since standard error is the command's."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever).start()
        place = f"127.0.0.1:{server.server_port}"
        try:
            for command, path, rest in (
                (
                    "publish",
                    "channels/a",
                    " 404 Not Found, as no newswire server does: check --url. It says: no such page",
                ),
                ("top", "console/stats", " 404, as no newswire server does"),
            ):
                arguments = [
                    command,
                    "--url",
                    f"http://ada:hunter2@{place}",
                    *(["a", "x"] if command == "publish" else []),
                ]
                said = CliRunner().invoke(newswire, arguments)
                assert (said.exit_code, said.stderr) == (1, f"newswire: http://{place}/{path} answers{rest}\n")
        finally:
            server.shutdown()


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"ids": []}', b'{"id": 5, "ids": 5}', b"no JSON", b"[" * 100_000])
def test_what_no_newswire_server_answers(body: bytes) -> None:
    """One sentence with what to check, whatever JSON another server's 200 has."""

    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *args: object) -> None:
            """Nothing, since standard error is the command's."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            for arguments in (["publish", "a", "x"], ["top", "--once"]):
                said = CliRunner().invoke(newswire, [*arguments, "--url", url])
                assert (said.exit_code, type(said.exception)) == (1, SystemExit)
                assert said.stderr.startswith(f"newswire: {url}/")
                assert "newswire server" in said.stderr
            with httpx2.Client(base_url=url) as client, pytest.raises(Failed, match="newswire server"):
                Upload(client, "a", event=None, wait=0.0, waiting=print).lines([Line(1, b"x")], ndjson=False)
        finally:
            server.shutdown()


def test_wait_goes_on_when_the_server_is_there(tmp_path: Path) -> None:
    """Nothing was sent before, so nothing is doubled."""
    port = free_port()
    command = [str(NEWSWIRE), "publish", "later", "x", "--wait", "60", "--url", f"http://127.0.0.1:{port}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stderr is not None
        assert b"Trying again" in process.stderr.readline()
        with Serve(tmp_path, port=port) as server:
            assert process.wait(PATIENCE) == 0
            assert server.stored("later") == ["x"]


def test_wait_goes_on_after_a_lost_answer(server: Serve) -> None:
    """The server has stored what it did not answer, and stores it once, an argument as well as lines."""
    with TcpProxy(server.port) as proxy:
        more = ("--wait", "60", "--url", f"http://127.0.0.1:{proxy.port}")
        for arguments, stdin in ((("lost", "one", *more), b""), (("lost", *more), b"two\nthree\n")):
            proxy.cut_answers = 1
            done = server.run("publish", *arguments, stdin=stdin)
            assert done.returncode == 0, done.stderr
            assert b"); trying again for" in done.stderr
        proxy.cut_answers = 1
        done = server.run("publish", "lost", "four", *more[2:])
        assert (done.returncode, b"may be stored all the same" in done.stderr) == (3, True)
    assert server.stored("lost") == ["one", "two", "three", "four"]


def test_lines_are_published_as_they_come(server: Serve) -> None:
    """A slow pipe is live: each line is there before the next is written."""
    command = [str(NEWSWIRE), "publish", "slow", "--url", server.url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_environment()
    ) as process:
        assert process.stdin is not None
        for count in range(1, 4):
            process.stdin.write(f"{count}\n".encode())
            process.stdin.flush()
            while len(server.stored("slow")) < count:
                assert process.poll() is None
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def test_an_interrupt_says_what_is_stored(server: Serve) -> None:
    """Ctrl-C is no stack trace."""
    command = [str(NEWSWIRE), "publish", "cut", "--url", server.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        # A batch is sent when the one before is answered: with the third line stored, the first two are known to be.
        for lines, stored in ((b"1\n2\n", 2), (b"3\n", 3)):
            process.stdin.write(lines)
            process.stdin.flush()
            while len(server.stored("cut")) < stored:
                assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait(PATIENCE) == 130, said
    assert re.search("[23] events are stored", said), said
    assert "Traceback" not in said


def test_a_terminal_sees_progress(server: Serve) -> None:
    """A line that is drawn again and again, in place; a pipe sees only the end."""
    main, other = pty.openpty()
    drawn = bytearray()

    def draw() -> None:
        try:
            while data := os.read(main, 65536):
                drawn.extend(data)
        except OSError:
            pass  # the other end is closed

    reading = threading.Thread(target=draw)
    reading.start()
    command = [str(NEWSWIRE), "publish", "shown", "--url", server.url]
    environment = clean_environment({"TERM": "xterm-256color", "COLUMNS": "100"})
    lines = b"".join(b"%d\n" % n for n in range(3000))
    subprocess.run(command, input=lines, stderr=other, env=environment, timeout=PATIENCE, check=True)
    os.close(other)
    reading.join()
    os.close(main)
    assert b" stored" in drawn
    assert b"\x1b[" in drawn
    assert b"3,000 events stored, the last as" in drawn
