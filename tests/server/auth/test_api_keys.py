"""API keys: what they open, that the file has no key in it, and that it is read again."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.serve import Serve, run_newswire

from newswire.server.auth import ApiKeys, Denied
from newswire.server.auth.api_keys import add_line, new_key


@pytest.mark.slow
def test_a_key_over_http(tmp_path: Path) -> None:
    """The command makes it and its line; the server takes it; the line taken out, it is refused."""
    file = tmp_path / "keys.jsonl"
    arguments = ("key", "--sub", "shop", "--publish", "orders.>", "--file", str(file))
    key = run_newswire(*arguments, folder=tmp_path).stdout.decode().strip()
    other = run_newswire(*arguments, folder=tmp_path).stdout.decode().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key.startswith("nwk_")
    assert key.rpartition("_")[2] not in file.read_text()
    headers = {"authorization": f"Bearer {key}"}
    with Serve(tmp_path, "--api-keys", str(file)) as server:
        url = f"{server.url}/channels/orders.1"
        assert httpx2.post(url, content="x", headers=headers).status_code == 200
        assert httpx2.post(f"{server.url}/channels/news", content="x", headers=headers).status_code == 403
        assert httpx2.get(url, headers=headers).status_code == 403
        for wrong in (key[:-1], key + "x", "nwk_", "nwk_a_b", key.replace("_", "", 1), key.upper()):
            answer = httpx2.post(url, content="x", headers={"authorization": f"Bearer {wrong}"})
            assert answer.status_code == 401
            assert answer.json()["reason"] in ("unknown_key", "bad_signature")
        cookie = {"cookie": f"__Host-newswire={key}"}
        assert httpx2.post(url, content="x", headers=cookie).status_code == 401
        file.write_text(file.read_text().splitlines()[1] + "\n")
        deadline = time.monotonic() + 30
        while httpx2.post(url, content="x", headers=headers).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert httpx2.post(url, content="x", headers={"authorization": f"Bearer {other}"}).status_code == 200
        done = server.run("publish", "orders.1", "by the command", "--token", other)
        assert done.returncode == 0
        assert server.run("publish", "orders.1", "without").returncode == 1


def test_a_file_that_breaks_while_it_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The keys that were known stay, and the log says so; one that is broken at the start is an error."""
    file = tmp_path / "keys"
    key, line = new_key("shop", publish=[">"])
    file.write_text(f"# comment\n\n{line}\n")
    keys = ApiKeys(file)
    file.write_text("nonsense\n")
    keys._due = 0.0
    assert keys.verify(key).subject == "shop"
    assert "the API keys that were known stay" in caplog.text
    os.remove(file)
    keys._due = 0.0
    assert keys.verify(key).publish == (">",)
    os.mkfifo(file)  # to read it would wait for a writer
    keys._due = 0.0
    assert keys.verify(key).publish == (">",)
    os.remove(file)
    with pytest.raises(ValueError, match="can't be read"):
        ApiKeys(file)


@pytest.mark.parametrize(
    "change",
    [{"hash": "md5:00"}, {"hash": "sha256:00"}, {"hash": "sha256:zz"}, {"publish": ["a..b"]}, {"publishes": [">"]},
     {"id": 5}, {"created": "soon"}, {"created": "nan"}, {"created": float("inf")},
     {"created": 1795862542783}, {"hash": 5}, {"sub": 5},
     {"sub": "\ud800"}],
)  # fmt: skip
def test_a_line_that_is_no_key(tmp_path: Path, change: dict[str, object]) -> None:
    """The line is named, and its secret is not shown."""
    _, line = new_key("shop", publish=[">"])
    value = json.loads(line) | change
    if change == {"id": 5}:
        del value["id"]
    (tmp_path / "keys").write_text(f"{line}\n{json.dumps(value)}\n")
    with pytest.raises(ValueError, match="line 2 is no key"):
        ApiKeys(tmp_path / "keys")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "it can't be read: no such file or directory"),
        (b"\xff", "it can't be read: it is not UTF-8"),
        (b"nonsense", "line 1 is no key as `newswire key` writes it: it is no JSON"),
        (b'{"id": "x", "sub": "shop"}', "line 1 is no key as `newswire key` writes it: 'hash' is missing"),
    ],
)
def test_what_is_wrong_is_said_in_words(tmp_path: Path, text: bytes | None, says: str) -> None:
    """Without a number of the kernel's, and without a place inside the line."""
    if text is not None:
        (tmp_path / "keys").write_bytes(text)
    with pytest.raises(ValueError, match=f"^{says}$"):
        ApiKeys(tmp_path / "keys")


@pytest.mark.parametrize("line", ["[]", '"x"', "5", "null", "[" * 100_000])
def test_a_line_that_is_no_object(tmp_path: Path, line: str) -> None:
    """The line is named; while the file is in use, the keys that were known stay."""
    key, good = new_key("shop", publish=[">"])
    file = tmp_path / "keys"
    file.write_text(f"{good}\n")
    keys = ApiKeys(file)
    file.write_text(f"{good}\n{line}\n")
    with pytest.raises(ValueError, match="line 2 is no key"):
        ApiKeys(file)
    keys._due = 0.0
    assert keys.verify(key).subject == "shop"


@pytest.mark.parametrize("subject", ["a\u2028b", "caf\x85", "\x1c", "two\nlines", "\ufeff"])
def test_a_subject_of_any_text(tmp_path: Path, subject: str) -> None:
    """What the command writes the server reads, whatever a line is elsewhere; also after a byte order mark."""
    key, line = new_key(subject, publish=[">"])
    other, second = new_key("shop", publish=[">"])
    (tmp_path / "keys").write_text(f"\ufeff{line}\n{second}\n", "utf-8")
    keys = ApiKeys(tmp_path / "keys")
    assert keys.verify(key).subject == subject
    assert keys.verify(other).subject == "shop"


def test_a_file_whose_last_line_has_no_end(tmp_path: Path) -> None:
    """The next key gets a line of its own, and both are good."""
    file = tmp_path / "keys"
    keys = [new_key(name, publish=[">"]) for name in ("one", "two", "three")]
    file.write_text(keys[0][1])
    add_line(file, keys[1][1])
    add_line(file, keys[2][1])
    known = ApiKeys(file)
    assert [known.verify(key).subject for key, _ in keys] == ["one", "two", "three"]


def test_a_subject_that_can_not_be_written() -> None:
    """It is refused where the key is made, before there is a line."""
    with pytest.raises(ValueError, match="UTF-8"):
        new_key("ada\udcff", publish=[">"])


def test_a_stranger_learns_nothing(tmp_path: Path) -> None:
    """A wrong secret of a key that exists and a key that doesn't have one answer."""
    key, line = new_key("shop", publish=[">"])
    (tmp_path / "keys").write_text(line)
    keys = ApiKeys(tmp_path / "keys")
    said = set()
    for wrong in (key[:-1] + ("a" if key[-1] != "a" else "b"), "nwk_000000000000_x", "nwk_\ud800"):
        with pytest.raises(Denied) as caught:
            keys.verify(wrong)
        said.add((caught.value.status, caught.value.detail))
    assert said == {(401, "there is no such API key")}


def test_a_key_is_good_for_something(tmp_path: Path) -> None:
    """Else the command refuses; without a file it shows the line."""
    assert run_newswire("key", "--sub", "shop", folder=tmp_path).returncode == 2
    done = run_newswire("key", "--sub", "shop", "--admin", folder=tmp_path)
    assert json.loads(done.stderr.decode().splitlines()[-1])["admin"] is True
