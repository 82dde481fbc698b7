"""The relay's settings: the same places as the server's, under names of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from tests.fixtures.settings import load, shown

from newswire.cli.relay import relay
from newswire.cli.serve import serve
from newswire.relay import RelayOptions, Upstream
from newswire.relay.settings import RelaySettings
from newswire.runs import WorkerOptions
from newswire.server.settings import Settings

A = Upstream("http://a")
GIVEN: dict[str, Any] = {"upstreams": ("http://a",)}


def write(folder: Path, text: str) -> Path:
    file = folder / "newswire.toml"
    file.write_text(text)
    return file


def test_a_flag_beats_the_environment_and_that_the_file(tmp_path: Path) -> None:
    """Each setting says where it came from; the names of `serve` beside them are not the relay's."""
    file = write(tmp_path, 'grace = 9\nport = 9\n[relay]\nport = 1\nlease = 2\ngrace = 3\nmax-body = "2KiB"\n')
    environment = {"NEWSWIRE_RELAY_PORT": "21", "NEWSWIRE_RELAY_LEASE": "22", "NEWSWIRE_GRACE": "29"}
    settings, sources = load(relay, RelaySettings, {**GIVEN, "port": "11"}, environment, file)
    assert (settings.port, settings.lease, settings.grace, settings.max_body) == (11, 22.0, 3.0, 2048)
    assert sources["upstreams"] == "--upstream"
    assert sources["port"] == "--port"
    assert sources["lease"] == "NEWSWIRE_RELAY_LEASE"
    assert sources["max_body"] == f"{file}, [relay] max-body"
    assert sources["host"] == "default"


@pytest.mark.parametrize(
    ("flags", "environment", "file"),
    [
        ({"upstreams": ("http://a", "b=http://b/v1")}, {}, ""),
        ({}, {"NEWSWIRE_RELAY_UPSTREAMS": "http://a, b=http://b/v1"}, ""),
        ({}, {}, '[relay]\nupstreams = ["http://a", "b=http://b/v1"]'),
        ({}, {}, '[relay]\nupstreams = "http://a b=http://b/v1"'),
    ],
)
def test_several_upstreams(tmp_path: Path, flags: dict[str, Any], environment: dict[str, str], file: str) -> None:
    """Wherever they are given, they are the same."""
    settings, _ = load(relay, RelaySettings, flags, environment, write(tmp_path, file) if file else None)
    assert settings.upstreams == (A, Upstream("http://b/v1", "b"))


@pytest.mark.parametrize(
    ("flags", "environment", "file", "says"),
    [
        ({}, {}, "", ["--upstream: a relay needs", "--upstream https://api.openai.com", "[relay]"]),
        ({"upstreams": ("api.openai.com",)}, {}, "", ["--upstream", "'api.openai.com'", "https://api.openai.com"]),
        ({"upstreams": ("http://a", "http://b")}, {}, "", ["--upstream", "same name"]),
        ({}, {"NEWSWIRE_RELAY_UPSTREAMS": "runs=http://a"}, "", ["NEWSWIRE_RELAY_UPSTREAMS", "not runs or"]),
        ({}, {}, "[relay]\nupstreams = 7", ["newswire.toml, [relay] upstreams", "URLs such as"]),
        ({**GIVEN, "port": "70000"}, {}, "", ["--port", "65,535"]),
        (GIVEN, {"NEWSWIRE_RELAY_LEASE": "0.1"}, "", ["NEWSWIRE_RELAY_LEASE", "0.2 or more"]),
        (GIVEN, {"NEWSWIRE_RELAY_PORT": "tcp://10.0.0.1:80"}, "", ["NEWSWIRE_RELAY_PORT", "'newswire-relay'"]),
        (GIVEN, {}, "[relay]\nretry = 1", ["newswire.toml, [relay] retry", "not a setting"]),
        (GIVEN, {}, 'lease = "5s"', ["newswire.toml, lease", "below [relay]"]),
        (GIVEN, {}, "[rleay]", ["newswire.toml, rleay", "not a setting"]),
        (GIVEN, {}, "relay = 1", ["newswire.toml: relay", "a table"]),
        ({**GIVEN, "workers": "2", "log": "memory://"}, {}, "", ["--workers", "sqlite"]),
        ({**GIVEN, "log": "foo://x"}, {}, "", ["--log", "sqlite:///"]),
    ],
)
def test_what_can_not_be_used_is_refused_where_it_stands(
    tmp_path: Path, flags: dict[str, Any], environment: dict[str, str], file: str, says: list[str]
) -> None:
    """The message names the source, the value and what is allowed."""
    with pytest.raises(click.ClickException) as caught:
        load(relay, RelaySettings, flags, environment, write(tmp_path, file) if file else None)
    for words in says:
        assert words in str(caught.value)


def test_what_is_the_relays_is_not_the_servers(tmp_path: Path) -> None:
    """`newswire serve` takes no notice of the relay's section, nor of its variables."""
    file = write(tmp_path, '[relay]\nport = 1\nupstreams = ["http://a"]\n')
    environment = {"NEWSWIRE_RELAY_PORT": "2", "NEWSWIRE_RELAY_SERVICE_HOST": "10.0.0.1"}
    assert load(serve, Settings, {}, environment, file)[0] == Settings()
    assert (
        load(relay, RelaySettings, {}, {"NEWSWIRE_RELAY_SERVICE_HOST": "x", "NEWSWIRE_SERVICE_HOST": "x"}, file)[0].port
        == 1
    )


def test_what_is_shown_can_be_given_back() -> None:
    """--show-config prints values in the words that the settings are read from."""
    given = {
        "NEWSWIRE_RELAY_UPSTREAMS": "https://api.openai.com, anthropic=https://api.anthropic.com",
        "NEWSWIRE_RELAY_TIMEOUT": "90",
        "NEWSWIRE_RELAY_IDLE_TIMEOUT": "none",
        "NEWSWIRE_RELAY_MAX_BODY": "64KiB",
        "NEWSWIRE_RELAY_COOKIES": "yes",
    }
    settings, _ = load(relay, RelaySettings, {}, given, None)
    assert load(relay, RelaySettings, {}, shown(settings), None)[0] == settings


def test_the_defaults_are_those_of_the_library() -> None:
    """The command behaves as `Relay` does in an application."""
    settings = RelaySettings(upstreams=(A,))
    assert settings.options == RelayOptions()
    assert settings.lease == WorkerOptions().lease


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("NEWSWIRE_RELAY_LAESE", "did you mean NEWSWIRE_RELAY_LEASE?"),
        ("NEWSWIRE_LEASE", "NEWSWIRE_RELAY_LEASE"),
        ("NEWSWIRE_HSOT", "did you mean NEWSWIRE_HOST?"),
        ("NEWSWIRE_TEAM", "no setting has this name"),
    ],
)
def test_an_unknown_variable_is_a_warning(variable: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It may belong to something else, so the relay starts; one sentence names it, and what may have been meant."""
    settings, _ = load(relay, RelaySettings, GIVEN, {variable: "1"}, None)
    [warning] = capsys.readouterr().err.splitlines()
    assert settings == load(relay, RelaySettings, GIVEN, {}, None)[0]
    assert warning.startswith(f"newswire: {variable} is not read: ")
    assert says in warning
