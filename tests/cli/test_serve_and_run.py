"""`newswire serve` and `newswire run` as commands: what they say, what they refuse, and how they stop."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx2
import psutil
import pytest
from tests.fixtures.serve import NEWSWIRE, PATIENCE, Reader, Serve, call_newswire, clean_environment, run_newswire

APP = """
import os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from newswire import EventSourceResponse, Hub

hub = Hub("sqlite:///newswire.db")  # with several workers not memory://

async def events(request):
    return EventSourceResponse(hub.subscribe("x"))

async def word(request):
    return PlainTextResponse(f"word {os.getpid()} {'newswire.direct' in request.scope['extensions']}")

def make():
    return Starlette(routes=[Route("/events", events), Route("/", word)])

app = make()
"""


def test_show_config_names_every_source(tmp_path: Path) -> None:
    """A flag, a variable, the file in the folder, and defaults."""
    (tmp_path / "newswire.toml").write_text('retry = 5000\n[retention.">"]\nmax_age = "7d"\n')
    environment = {"NEWSWIRE_GRACE": "20s"}
    done = call_newswire("serve", "--show-config", "--port", "9000", folder=tmp_path, environment=environment)
    shown = {line.split()[0]: re.split(r"\s{2,}", line) for line in done.stdout.decode().splitlines()}
    assert shown["port"] == ["port", "9000", "--port"]
    assert shown["grace"] == ["grace", "20s", "NEWSWIRE_GRACE"]
    assert shown["retry"] == ["retry", "5000", "newswire.toml, retry"]
    assert shown["retention"] == ["retention", ">:max_age=7d", "newswire.toml, retention"]
    assert shown["host"] == ["host", "127.0.0.1", "default"]
    assert not (tmp_path / "newswire.db").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "--insecure"),
        (["--host", "::"], "--insecure"),
        (["--host", "no.such.host.invalid"], "is no address of this machine"),
        (["--log", "sqlite:////no/such/folder/x.db"], "does not exist"),
        (["--log", "sqlite:///newswire.toml"], "not an SQLite database"),
        (["--grace", "soon"], "--grace"),
        (["--config", "missing.toml"], "missing.toml"),
    ],
)
def test_serve_says_what_is_wrong_in_a_sentence(tmp_path: Path, arguments: list[str], says: str) -> None:
    """And no stack trace."""
    (tmp_path / "newswire.toml").write_text("# " + "no database " * 100)
    done = call_newswire("serve", "--port", "0", *arguments, folder=tmp_path)
    assert done.returncode == 1
    assert says in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """With what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_newswire("serve", "--port", port, folder=tmp_path)
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr.decode()


@pytest.mark.parametrize("host", ["192.0.2.1", "300.1.1.1"])
def test_an_address_of_another_machine_is_named(tmp_path: Path, host: str) -> None:
    """In words, without a number of the kernel's."""
    done = call_newswire("serve", "--port", "0", "--insecure", "--host", host, folder=tmp_path)
    assert done.returncode == 1
    said = done.stderr.decode()
    assert f"Error: {host} is no address of this machine" in said
    assert "choose another with --host" in said
    assert "Errno" not in said


@pytest.mark.parametrize("host", ["300.1.1.1", "a b", "::g"])
def test_an_address_that_is_none_is_not_taken_for_a_public_one(tmp_path: Path, host: str) -> None:
    """A slip of the pen is named, and not how to serve the world."""
    done = call_newswire("serve", "--port", "0", "--host", host, folder=tmp_path)
    assert done.returncode == 1
    assert f"Error: {host} is no address of this machine" in done.stderr.decode()


def test_port_0_says_which_one_it_took(tmp_path: Path) -> None:
    """The URL on standard error can be used at once; Ctrl-C ends it in order."""
    command = [str(NEWSWIRE), "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stderr is not None
        found = re.search(rb"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert found is not None
        assert httpx2.get(f"{found[0].decode()}/health/ready", timeout=PATIENCE).status_code == 200
        process.send_signal(signal.SIGINT)
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("flags", [("app:app",), ("app:make", "--factory"), ("app:app", "--workers", "2")])
def test_run_serves_any_application_on_the_direct_path(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Its streams say goodbye when it stops."""
    (tmp_path / "app.py").write_text(APP)
    server = Serve(tmp_path, *flags, command="run")
    with server, Reader(f"{server.url}/events") as reader:
        reader.opened()
        assert httpx2.get(server.url).text.endswith(" True")
        server.process.send_signal(signal.SIGTERM)
        assert [event.event for event in reader.rest()] == ["newswire.goodbye"]
        assert server.process.wait(PATIENCE) == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["serve", "run"])
def test_workers_stop_when_their_parent_was_killed(command: str, tmp_path: Path) -> None:
    """Their streams say goodbye, and the port is free for the server that the supervisor starts next."""
    (tmp_path / "app.py").write_text(APP)
    flags, path = ((), "/channels/x") if command == "serve" else (("app:app",), "/events")
    server = Serve(tmp_path, *flags, "--workers", "2", command=command)
    with Reader(f"{server.url}{path}") as reader:
        reader.opened()
        workers = psutil.Process(server.process.pid).children()
        server.process.kill()
        server.process.wait(PATIENCE)
        try:
            assert [event.event for event in reader.rest()] == ["newswire.goodbye"]
            _, left = psutil.wait_procs(workers, PATIENCE)
            assert not left
        finally:
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
    with socket.create_server(("127.0.0.1", server.port)):
        pass


@pytest.mark.parametrize(
    ("app", "says"), [("app", "MODULE:APP"), ("missing:app", "missing"), ("app:nothing", "nothing")]
)
def test_run_says_what_can_not_be_imported(tmp_path: Path, app: str, says: str) -> None:
    """An application that is not there ends the command."""
    (tmp_path / "app.py").write_text(APP)
    done = run_newswire("run", app, "--port", "0", folder=tmp_path)
    assert done.returncode in (2, 3)
    assert says in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_version_and_help(tmp_path: Path) -> None:
    """Every command explains itself."""
    assert run_newswire("--version", folder=tmp_path).stdout.startswith(b"newswire, version ")
    for command in ("serve", "run", "publish", "tail"):
        assert b"Usage: newswire " + command.encode() in call_newswire(command, "--help", folder=tmp_path).stdout


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    """What to install, and no stack trace."""
    (tmp_path / "uvicorn").mkdir()
    (tmp_path / "uvicorn" / "__init__.py").write_text("raise ModuleNotFoundError(name='uvicorn')")
    done = run_newswire("serve", folder=tmp_path, environment={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert b"pip install 'newswire[server]'" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_killed_server_leaves_no_folder_behind(tmp_path: Path) -> None:
    """What several workers share needs one; a server alone makes none that it could not take away."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    with Serve(tmp_path, "--log", "memory://", environment={"TMPDIR": str(folder)}) as server:
        server.stop(signal.SIGKILL)
    assert list(folder.iterdir()) == []


WHO = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        body = f"{scope['client'][0]} {scope['scheme']}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
"""
FORWARDED = {"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "variable", "seen"),
    [
        ((), None, "127.0.0.1 http"),
        (("--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "127.0.0.1"), None, "192.0.2.1 https"),
        (("--forwarded-allow-ips", "10.0.0.1,*"), None, "192.0.2.1 https"),
        ((), "10.0.0.1, 127.0.0.1", "192.0.2.1 https"),
        (("--host", "::", "--trusted-proxy", "127.0.0.0/8"), None, "192.0.2.1 https"),
    ],
)
def test_run_believes_the_proxies_that_are_named(
    tmp_path: Path, flags: tuple[str, ...], variable: str | None, seen: str
) -> None:
    """And no other client, though it be on this machine."""
    (tmp_path / "app.py").write_text(WHO)
    environment = {} if variable is None else {"FORWARDED_ALLOW_IPS": variable}
    with Serve(tmp_path, "app:app", *flags, command="run", environment=environment) as server:
        assert httpx2.get(server.url, headers=FORWARDED, timeout=PATIENCE).text == seen


def test_a_proxy_that_is_no_address_is_refused(tmp_path: Path) -> None:
    """A name would never match a client."""
    done = call_newswire("run", "app:app", "--trusted-proxy", "proxy.internal", folder=tmp_path)
    assert done.returncode == 2
    assert "'proxy.internal' can't be used: give addresses or networks" in " ".join(done.stderr.decode().split())
