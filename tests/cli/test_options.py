"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.fixtures.serve import Serve

from newswire.cli.main import newswire
from newswire.cli.options import BodyParam, headers_of


@pytest.mark.parametrize("command", [["publish", "news", "x"], ["tail", "news"], ["top", "--once"]])
@pytest.mark.parametrize("url", ["localhost:8000", "ftp://ada:hunter2@localhost"])
def test_a_servers_address_is_a_url(command: list[str], url: str) -> None:
    """The same words from each command, as from a variable; a password is not among them."""
    shown = url.replace("ada:hunter2@", "")
    for said in (
        CliRunner().invoke(newswire, [*command, "--url", url]),
        CliRunner().invoke(newswire, command, env={"NEWSWIRE_URL": url}),
    ):
        assert said.exit_code == 2
        assert f"it begins with http:// or https://, and this is {shown!r}" in said.output


@pytest.mark.parametrize("command", [["publish", "news", "x"], ["tail", "news"], ["top", "--once"]])
@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http://localhost:99999", "http://localhost:0", "http://a\nb", "https://:80"]
)
def test_an_address_has_a_host_and_a_port_that_can_be(command: list[str], url: str) -> None:
    """One sentence, and no stack trace of a library's."""
    said = CliRunner().invoke(newswire, [*command, "--url", url])
    assert said.exit_code == 2
    assert "has no usable host or port" in said.output


@pytest.mark.parametrize("command", [["publish", "news", ""], ["tail", "a/b"]])
def test_a_variable_that_is_nearly_an_options_is_named(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the command would go to another server, and say no word; those of other commands are left alone."""
    for name in ("NEWSWIRE_URI", "NEWSWIRE_TOKENS", "NEWSWIRE_METRICS_TOKEN", "NEWSWIRE_LOG", "OTHER_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    said = CliRunner().invoke(newswire, command)
    assert said.exit_code == 2
    assert [line for line in said.stderr.splitlines() if line.startswith("newswire: ")] == [
        "newswire: NEWSWIRE_URI is not read: did you mean NEWSWIRE_URL?",
        "newswire: NEWSWIRE_TOKENS is not read: did you mean NEWSWIRE_TOKEN?",
    ]
    monkeypatch.setenv("NEWSWIRE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("NEWSWIRE_TOKEN", "x")
    assert "is not read" not in CliRunner().invoke(newswire, command).stderr


def test_an_address_without_its_scheme_is_no_channel() -> None:
    """curl takes `localhost:8000/channels/news`; `newswire tail` says what is missing."""
    said = CliRunner().invoke(newswire, ["tail", "localhost:8000/channels/news"])
    assert said.exit_code == 2
    assert "'localhost:8000/channels/news' has a slash, as no channel has: an address begins with http:" in said.output


@pytest.mark.slow
def test_a_command_without_a_credential_says_how_to_give_it(tmp_path: Path) -> None:
    """The server speaks of a header, and the command of its own option."""
    with Serve(tmp_path, "--jwt-secret", "a secret of thirty-two bytes, or more") as server:
        for command in (("publish", "news", "x"), ("tail", "news"), ("top", "--once")):
            done = server.run(*command)
            assert done.returncode == 1
            assert done.stderr.decode().endswith("; here by --token or NEWSWIRE_TOKEN\n")


@pytest.mark.parametrize("command", [["tail", "news"], ["doctor", "http://127.0.0.1:9/"]])
def test_a_requests_headers_and_body(command: list[str]) -> None:
    """The same words from each command that sends a request of the user's."""
    for arguments, says in (
        (["--header", "nonsense"], "'--header': it is 'NAME: VALUE', not 'nonsense'"),
        (["--header", ": x"], "'--header': it is 'NAME: VALUE', not ': x'"),
        (["--data", "@missing/body"], "'--data': missing/body can't be read: No such file"),
    ):
        said = CliRunner().invoke(newswire, [*command, *arguments])
        assert said.exit_code == 2
        assert says in said.output


def test_a_body_is_json_unless_a_header_says_otherwise(tmp_path: Path) -> None:
    """A text, a file or the standard input."""
    file = tmp_path / "body"
    file.write_bytes(b"\xff{}")
    body = BodyParam().convert(f"@{file}", None, None)
    assert (body, BodyParam().convert("\udcff{}", None, None)) == (b"\xff{}", b"\xff{}")
    assert headers_of([("X-A", "b")], body) == {"X-A": "b", "content-type": "application/json"}
    assert headers_of([("Content-Type", "text/plain")], body) == {"Content-Type": "text/plain"}
    assert headers_of([], None) == {}
