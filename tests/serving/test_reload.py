"""SIGHUP: settings and keys are read again, streams go on, and what can't be used changes nothing."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.fixtures.serve import NEWSWIRE, PATIENCE, Reader, Serve, clean_environment

from newswire.server.settings import Settings


def until(what: Callable[[], bool], why: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, why()
        time.sleep(0.02)


def reload(server: Serve, says: str = "read the settings and the files of keys again") -> str:
    """Have a server read its settings again. Returns the line that it says."""
    begun = len(server.stderr())
    server.process.send_signal(signal.SIGHUP)
    until(lambda: says in server.stderr()[begun:] and server.stderr().endswith("\n"), server.stderr)
    return server.stderr()[begun:]


def new_key(file: Path) -> Ed25519PrivateKey:
    """Make a key, and put its public half into a file."""
    key = Ed25519PrivateKey.generate()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    file.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return key


def bearer(key: Ed25519PrivateKey) -> dict[str, str]:
    """The header of a token for the channel x."""
    claims = {"sub": "ada", "exp": time.time() + 600, "subscribe": ["x"], "publish": ["x"]}
    return {"authorization": f"Bearer {jwt.encode(claims, key, algorithm='EdDSA')}"}


def retry_of(server: Serve) -> str:
    """What a new stream begins with."""
    with httpx2.stream("GET", f"{server.url}/channels/x", timeout=PATIENCE) as answer:
        return next(answer.iter_text()).partition("\n")[0]


def test_limits_change_while_streams_go_on(tmp_path: Path) -> None:
    """One line says what has changed and what needs a restart; the flags of the command stay."""
    file = tmp_path / "newswire.toml"
    file.write_text("retry = 1000\nheartbeat = 9\nmax-channels = 1\n")
    with Serve(tmp_path, "--heartbeat", "5") as server, Reader(f"{server.url}/channels/x") as reader:
        reader.opened()
        assert httpx2.get(f"{server.url}/stream?channel=a&channel=b").status_code == 400
        file.write_text("retry = 7000\nheartbeat = 8\nmax-channels = 2\nworkers = 4\nmax-body = 10\n")
        said = reload(server)
        assert "again: max_body, max_channels and retry changed; workers can change only with a restart" in said
        assert retry_of(server) == "retry: 7000"
        assert httpx2.head(f"{server.url}/stream?channel=a&channel=b").status_code == 200
        assert httpx2.post(f"{server.url}/channels/x", content="x" * 11).status_code == 413
        server.publish("x", "still")
        assert [event.data for event in reader.read(1)] == ["still"]
        assert "none of them changed" in reload(server)


def test_keys_change_and_old_ones_are_refused(tmp_path: Path) -> None:
    """A key file that was replaced; the stream of the old key's token goes on."""
    public = tmp_path / "public.pem"
    old = bearer(new_key(public))
    with Serve(tmp_path, "--jwt-key", str(public)) as server, Reader(f"{server.url}/channels/x", old) as reader:
        reader.opened()
        new = bearer(new_key(public))
        url = f"{server.url}/channels/x"
        assert httpx2.post(url, content="a", headers=new).status_code == 401
        reload(server)
        assert httpx2.post(url, content="b", headers=old).status_code == 401
        assert httpx2.post(url, content="c", headers=new).status_code == 200
        assert [event.data for event in reader.read(1)] == ["c"]


def test_what_can_not_be_used_changes_nothing(tmp_path: Path) -> None:
    """The server says what is wrong, and goes on as before."""
    slips = {
        "retry = 'soon'": "newswire.toml, retry",
        "retrry = 5": "did you mean retry?",
        "retry = ": "is no TOML file",
        "api-keys = 'missing'\nretry = 5": "can't be read",
        "anonymous = ['>']": "only with a restart",
    }
    with Serve(tmp_path) as server:
        for text, says in slips.items():
            (tmp_path / "newswire.toml").write_text(text)
            assert says in reload(server, "the settings were not read again, and those of before stay")
        assert retry_of(server) == "retry: 3000"
        assert "Traceback" not in server.stderr()


def test_a_file_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    """Else a server whose file is just being replaced would go on with the defaults."""
    file = tmp_path / "newswire.toml"
    file.write_text("retry = 1000\n")
    with Serve(tmp_path) as server:
        file.unlink()
        assert "newswire.toml is not there any more" in reload(server, "the settings were not read again")
        assert retry_of(server) == "retry: 1000"
        file.write_text("retry = 7000\n")
        assert "retry changed" in reload(server)


@pytest.mark.slow
def test_all_workers_read_them(tmp_path: Path) -> None:
    """Those that run, and one that starts later."""
    file = tmp_path / "newswire.toml"
    file.write_text("retry = 1000\n")
    with Serve(tmp_path, "--workers", "2") as server:
        workers = _children(server.process.pid)
        file.write_text("retry = 7000\n")
        assert reload(server).count("retry changed") == 1
        until(lambda: all(retry_of(server) == "retry: 7000" for _ in range(10)), server.stderr)
        assert _children(server.process.pid) >= workers, "a worker was started anew"
        [worker, *_] = [one for one in workers if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
        os.kill(worker, signal.SIGKILL)
        until(lambda: worker not in _children(server.process.pid), server.stderr)
        until(lambda: len(_children(server.process.pid)) == len(workers), server.stderr)
        assert all(retry_of(server) == "retry: 7000" for _ in range(10))


def _children(pid: int) -> set[int]:
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_a_terminal_that_is_closed_ends_the_server(tmp_path: Path) -> None:
    """The kernel sends SIGHUP then, too: it is a stop in order, as it was."""
    ours, theirs = pty.openpty()
    command = [str(NEWSWIRE), "serve", "--port", "0", "--log", "sqlite:///newswire.db"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=clean_environment(),
        start_new_session=True, preexec_fn=_take_terminal,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while b"Ctrl-C stops it" not in said:
        said += os.read(ours, 1000)
    until(lambda: _handles(process.pid, signal.SIGHUP), lambda: said)
    os.close(ours)
    assert process.wait(PATIENCE) == 0


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _handles(pid: int, number: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def test_the_names_are_those_of_settings() -> None:
    """And none of them is one that only the start of a server reads."""
    names = set(Settings.__dataclass_fields__)
    assert Settings.reloadable <= names
    assert not Settings.reloadable & {"host", "port", "fd", "workers", "log", "retention", "grace", "cors_origins"}
