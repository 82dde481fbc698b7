"""`newswire run`: what can't be run is refused before the port is taken and before anything is announced."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fixtures.serve import NEWSWIRE, Serve, call_newswire, run_newswire

from newswire.cli.options import Duration

APP = """
from starlette.applications import Starlette
from newswire import Hub

hub = Hub()
app = Starlette()

def make():
    return app

def make_none():
    return None

def make_wrong():
    raise ValueError("no settings")

def wsgi(environ, start_response):
    pass

class Raw:
    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

raw = Raw()
fails = Starlette(lifespan=Hub("sqlite:////nowhere/at.db").lifespan)
"""
FILES = {
    "app": APP,
    "broken": "import json\ndef read():\n    return json.loads('{')\nsettings = read()\n",
    "syntax": "app = (\n",
    "needs": "import not_installed_anywhere\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


REFUSED = [
    (("nope:app",), "there is no module 'nope'"),
    (("nope.deep:app",), "there is no module 'nope'"),
    (("app:nothing",), "app has no attribute 'nothing': did you mean app:app?"),
    (("app:hub",), "app:hub is a Hub, which is no ASGI application: did you mean app:app?"),
    (("app:make",), "say --factory"),
    (("app:wsgi",), "as WSGI applications do"),
    (("app:make_none", "--factory"), "app:make_none returns None"),
    (("app:make_wrong", "--factory"), "ValueError: no settings"),
    (("broken:app",), "broken can't be imported: json.decoder.JSONDecodeError"),
    (("syntax:app",), "SyntaxError"),
    (("needs:app",), "No module named 'not_installed_anywhere'"),
]


@pytest.mark.parametrize(
    ("arguments", "says", "workers"),
    [(*each, ()) for each in REFUSED] + [(*REFUSED[case], ("--workers", "2")) for case in (0, 3, 6, 8)],
)
def test_what_can_not_be_run_is_one_sentence(
    folder: Path, arguments: tuple[str, ...], says: str, workers: tuple[str, ...]
) -> None:
    """Status 3, no banner, no frames but the user's own, said once whatever the number of workers."""
    done = run_newswire("run", *arguments, *workers, "--port", "0", folder=folder)
    said = done.stderr.decode()
    assert done.returncode == 3, said
    assert said.count(says) == 1
    assert "Ctrl-C stops it" not in said
    assert "Traceback" not in said
    assert "site-packages" not in said
    assert len(said.splitlines()) < 8


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_application_that_does_not_start_is_a_failure(folder: Path, workers: str) -> None:
    """Its supervisor learns it from the status, whatever the number of workers."""
    done = run_newswire("run", "app:fails", "--workers", workers, "--port", "0", folder=folder)
    assert done.returncode == 3
    assert "the folder of /nowhere/at.db does not exist" in done.stderr.decode()


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("app.py", "app:app"),
        ("app.py:make", "app:make"),
        ("./app:app", "app:app"),
        ("shop/web.py:app", "shop.web:app"),
        ("/srv/web.py:app", "--app-dir /srv web:app"),
        ("../web:app", "--app-dir .. web:app"),
        ("/:app", "--app-dir / main:app"),
    ],
)
def test_a_path_is_no_module(folder: Path, target: str, meant: str) -> None:
    """The shell completes paths; the message says the module."""
    done = call_newswire("run", target, folder=folder)
    assert done.returncode == 2
    assert f"did you mean {meant}?" in done.stderr.decode()


def test_a_file_without_a_suffix_is_no_module(tmp_path: Path) -> None:
    """The command does not propose what it was given."""
    (tmp_path / "big").touch()
    done = call_newswire("run", "big:app", folder=tmp_path)
    assert done.returncode == 3
    assert "there is no module 'big'" in done.stderr.decode()


def test_the_users_own_frames_are_shown(folder: Path) -> None:
    """The line that failed, and its caller; not the importer's forty."""
    said = run_newswire("run", "broken:app", "--port", "0", folder=folder).stderr.decode()
    assert re.findall(r"broken\.py, line (\d): (.*)", said) == [
        ("4", "settings = read()"), ("3", "return json.loads('{')"),
    ]  # fmt: skip
    assert "json/decoder.py" not in said


def test_the_module_is_looked_for_before_the_port(folder: Path) -> None:
    """Of two mistakes the one that matters is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "no module" in run_newswire("run", "nope:app", "--port", port, folder=folder).stderr.decode()
        said = run_newswire("run", "app:app", "--port", port, folder=folder).stderr.decode()
    assert f"port {port} of 127.0.0.1 is in use" in said
    assert "relay` takes 8100" in said


@pytest.mark.parametrize(
    "flags", [("app:app",), ("app:raw",), ("app:make", "--factory"), ("app:app", "--workers", "2")]
)
def test_what_can_be_run_is_announced_once(folder: Path, flags: tuple[str, ...]) -> None:
    """With the times that `serve` takes."""
    server = Serve(folder, *flags, "--grace", "10s", command="run")
    assert server.stop() == 0
    assert server.stderr().count("Ctrl-C stops it") == 1


def test_times_are_written_in_one_way() -> None:
    """Those of every command; what is none is refused with examples."""
    kind = Duration()
    for text, seconds in (("10s", 10.0), ("10", 10.0), ("2m", 120.0), ("500ms", 0.5), ("1.5", 1.5)):
        assert kind.convert(text, None, None) == seconds
    assert Duration(zero=True).convert("0", None, None) == 0.0
    for text in ("0", "-1", "soon", "10 parsecs", "nan", "inf", ""):
        with pytest.raises(Exception, match="is no time"):
            kind.convert(text, None, None)


def test_python_m_newswire_is_the_command(tmp_path: Path) -> None:
    """Everyone tries it."""
    done = subprocess.run([sys.executable, "-m", "newswire", "--version"], capture_output=True, timeout=30, check=True)
    assert done.stdout == subprocess.run([NEWSWIRE, "--version"], capture_output=True, timeout=30, check=True).stdout


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["serev"], "did you mean serve?"),
        (["tial"], "did you mean tail?"),
        (["x"], "there are init, serve"),
        (["log", "trimm"], "did you mean trim?"),
    ],
)
def test_a_slip_in_the_command_gets_a_suggestion(tmp_path: Path, command: list[str], says: str) -> None:
    """As options do."""
    done = run_newswire(*command, folder=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr.decode()


def test_an_unknown_variable_stops_no_server(tmp_path: Path) -> None:
    """One warning names it."""
    done = run_newswire("serve", "--show-config", folder=tmp_path, environment={"NEWSWIRE_PROT": "1"})
    assert done.returncode == 0
    assert done.stderr == b"newswire: NEWSWIRE_PROT is not read: did you mean NEWSWIRE_PORT?\n"
