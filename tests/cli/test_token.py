"""What `newswire token`, `ticket` and `key` say when something is missing. The server's tests use what they print."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from newswire.cli.main import newswire


@pytest.mark.parametrize("name", ["token", "ticket"])
def test_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyJWT they name the extra, in one line."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    said = CliRunner().invoke(newswire, [name, "--jwt-secret", "s" * 32, "--subscribe", "news"])
    assert (said.exit_code, said.output) == (
        1,
        "Error: this command needs jwt, which is not installed: pip install 'newswire[auth]'\n",
    )


@pytest.mark.parametrize("name", ["token", "ticket"])
def test_no_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a secret they name the variable that may have it."""
    monkeypatch.delenv("NEWSWIRE_JWT_SECRET", raising=False)
    said = CliRunner().invoke(newswire, [name, "--subscribe", "news"])
    assert said.exit_code == 2
    assert "'--jwt-secret' (env var: 'NEWSWIRE_JWT_SECRET')" in said.output


@pytest.mark.parametrize("name", ["token", "ticket"])
@pytest.mark.parametrize(
    ("secret", "says"), [("", "a secret must not be empty"), ("\udcff", "has bytes that are none")]
)
def test_a_secret_that_no_server_has(name: str, secret: str, says: str) -> None:
    """What it would sign is good for nothing."""
    said = CliRunner().invoke(newswire, [name, "--subscribe", "news", "--jwt-secret", secret])
    assert said.exit_code == 2
    assert says in said.output


@pytest.mark.parametrize("name", ["token", "ticket", "key"])
def test_an_empty_user_is_refused(name: str) -> None:
    """As a shell gives it whose variable is not set."""
    needed = [] if name == "key" else ["--jwt-secret", "s" * 32, "--subscribe", "news"]
    said = CliRunner().invoke(newswire, [name, *needed, "--sub", ""])
    assert said.exit_code == 2
    assert "'--sub': a subject has 1 to 1,000 characters" in said.output
