"""Settings: where they come from, what wins, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
from tests.fixtures.settings import load, shown

from newswire import Retention
from newswire.cli.serve import serve
from newswire.errors import InvalidSetting
from newswire.server.settings import Settings
from newswire.serving.option_types import SlowRule


def write(folder: Path, text: str) -> Path:
    file = folder / "newswire.toml"
    file.write_text(text)
    return file


def test_a_flag_beats_the_environment_and_that_the_file(tmp_path: Path) -> None:
    """Each setting says where it came from."""
    file = write(tmp_path, 'port = 1\nretry = 2\ngrace = 3\nmax-body = "2KiB"\n')
    settings, sources = load(serve, Settings, {"port": "11"}, {"NEWSWIRE_PORT": "21", "NEWSWIRE_RETRY": "22"}, file)
    assert (settings.port, settings.retry, settings.grace, settings.max_body) == (11, 22, 3.0, 2048)
    assert sources["port"] == "--port"
    assert sources["retry"] == "NEWSWIRE_RETRY"
    assert sources["max_body"] == f"{file}, max-body"
    assert sources["host"] == "default"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("heartbeat", "none", None),
        ("heartbeat", "1.5", 1.5),
        ("grace", "2m", 120.0),
        ("max_age", "7d", 604800.0),
        ("max_body", "1 MiB", 2**20),
        ("max_body", "64kb", 64_000),
        ("insecure", "yes", True),
        ("cors_origins", "https://a.example, http://b.example:8080", ("https://a.example", "http://b.example:8080")),
        ("cors_origins", "App://Desk", ("app://desk",)),
        ("retention", "a.>:max_age=1h,max_events=5; >:max_bytes=1GiB", {
            "a.>": Retention(max_age=3600.0, max_events=5), ">": Retention(max_bytes=2**30),
        }),
    ],
)  # fmt: skip
def test_values_are_written_as_people_write_them(name: str, text: str, value: object) -> None:
    """Units, words and lists are read from text."""
    settings, _ = load(serve, Settings, {}, {f"NEWSWIRE_{name.upper()}": text}, None)
    assert getattr(settings, name) == value


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"port": "8000"}, "Settings(port=...): '8000' can't be used here. Give a whole number from 0 to 65,535"),
        ({"max_body": -1}, "Settings(max_body=...): '-1' can't be used here. Give a size such as"),
        ({"heartbeat": "15s"}, "Settings(heartbeat=...): '15s' can't be used here. Give a time such as 15"),
        ({"grace": None}, "Settings(grace=...): 'None' can't be used here. Give a time such as 15"),
        ({"insecure": "no"}, "Settings(insecure=...): 'no' can't be used here. Give true or false"),
        ({"workers": True}, "Settings(workers=...): 'True' can't be used here. Give a whole number from 1 to 512"),
        ({"cors_origins": "*"}, "Settings(cors_origins=...): '*' can't be used here. Give origins such as"),
        ({"latest": ["a b"]}, "Settings(latest=...): \"['a b']\" can't be used here. Give channel patterns such as"),
        ({"jwt_audience": [3]}, "Settings(jwt_audience=...): '[3]' can't be used here. Give names"),
        ({"drain": "cut"}, "Settings(drain=...): 'cut' can't be used here. Give goodbye or drain"),
        ({"jwt_secret": b"hush"}, "Settings(jwt_secret=...): '(secret)' can't be used here. Give a secret"),
        (
            {"metrics_token": "geheim\xe9"},
            "Settings(metrics_token=...): '(secret)' can't be used here. Give a secret of ASCII",
        ),
        ({"edge_key": " key"}, "Settings(edge_key=...): '(secret)' can't be used here. Give a secret of ASCII"),
        ({"auth_cookie": "a=b; Path"}, "Settings(auth_cookie=...): 'a=b; Path' can't be used here. Give the name"),
        ({"slow": {">": {"timeout": 5}}}, "Settings(slow=...): "),
        ({"retention": {">": "7d"}}, "retention is a Retention, or a mapping from patterns to Retentions, not"),
    ],
)
def test_what_an_application_sets(given: dict[str, Any], says: str) -> None:
    """A value is one that the command line would make of its text; a text is none where a number is meant."""
    with pytest.raises((InvalidSetting, TypeError), match="^" + re.escape(says)):
        Settings(log="memory://", **given)


def test_what_an_application_may_set() -> None:
    """Lists and tuples, whole seconds, and None where `none` is allowed."""
    rules = {">": SlowRule(timeout=5, max_behind=3)}
    more: dict[str, Any] = {"latest": ["a.*"], "trusted_proxy": ("10.0.0.1",), "slow": rules}
    settings = Settings(log="memory://", heartbeat=None, grace=2, **more)
    assert (settings.heartbeat, settings.grace, settings.slow) == (None, 2, rules)
    with pytest.raises(ValueError, match="max_behind must be a whole number greater than 0"):
        SlowRule(max_behind="3")  # type: ignore[arg-type]


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Some editors write one."""
    settings, _ = load(serve, Settings, {}, {}, write(tmp_path, "\ufeffport = 8123\nallowed-hosts = []"))
    assert (settings.port, list(settings.allowed_hosts)) == (8123, [])


def test_retention_has_a_default_and_none() -> None:
    """Not given is the log's default, which is not the same as `none`: that keeps everything."""
    assert Settings().retention is None
    assert load(serve, Settings, {"retention": ("default",)}, {}, None)[0].retention is None
    assert load(serve, Settings, {"retention": ("none",)}, {}, None)[0].retention == {}


def test_retention_as_tables_of_the_file(tmp_path: Path) -> None:
    """The rules keep the order of the file."""
    file = write(tmp_path, '[retention."a.>"]\nmax_age = "1d"\n[retention.">"]\nmax-events = 10\n')
    settings, _ = load(serve, Settings, {}, {}, file)
    assert list(settings.retention.items()) == [("a.>", Retention(max_age=86400.0)), (">", Retention(max_events=10))]


@pytest.mark.parametrize(
    ("flags", "environment", "file", "says"),
    [
        ({"port": "x"}, {}, "", ["--port", "'x'", "whole number"]),
        ({"port": "70000"}, {}, "", ["--port", "65,535"]),
        ({}, {"NEWSWIRE_GRACE": "soon"}, "", ["NEWSWIRE_GRACE", "'soon'", "15s"]),
        ({}, {"NEWSWIRE_GRACE": "nan"}, "", ["NEWSWIRE_GRACE"]),
        ({}, {"NEWSWIRE_PORT": "tcp://10.0.0.1:80"}, "", ["NEWSWIRE_PORT", "enableServiceLinks"]),
        ({}, {}, "prot = 1", ["newswire.toml, prot", "did you mean port"]),
        ({}, {}, "port = true", ["newswire.toml, port", "whole number"]),
        ({}, {}, "port =", ["--config", "TOML"]),
        ({}, {}, 'log = "foo://x"', ["newswire.toml, log", "sqlite:///"]),
        ({}, {}, 'heartbeat = "0s"', ["newswire.toml, heartbeat", "greater than 0"]),
        ({"retention": ("a>:max_age=1d",)}, {}, "", ["--retention", "whole last token"]),
        ({"retention": (">:max_aeg=1d",)}, {}, "", ["--retention", "'max_aeg' of '>' is no limit here"]),
        (
            {},
            {},
            '[retention.">"]\nmax-aeg = 1',
            ["toml, retention: 'max-aeg' of '>' is no limit here: there are max_age"],
        ),
        ({}, {}, '[retention.">"]\nmax_age = "1x"', ["toml, retention: max_age of '>' can't be '1x': give a time"]),
        ({}, {}, '[retention]\nmax_age = "1d"', ["toml, retention: max_age is for", 'write [retention.">"]']),
        ({}, {}, "[slow]\nx = 5", ["toml, slow: 'x' has no limits", 'write [slow."x"]', "timeout or max_behind"]),
        ({}, {}, "[server]\nport = 1", ["newswire.toml, server", "at the top of the file, without [server] above"]),
        ({}, {}, "lease = 1", ["newswire.toml, lease", "one of `newswire relay`: write lease below [relay]"]),
        ({"cors_origins": ("https://a.example/",)}, {}, "", ["--cors-origin", "no final slash"]),
        ({"cors_origins": ("a.example",)}, {}, "", ["--cors-origin", "such as https://"]),
        ({"workers": "2", "log": "memory://"}, {}, "", ["--workers", "sqlite"]),
        ({"retention": ("",)}, {}, "", ["--retention", "'' can't be used", "'none' for everything"]),
        ({"jwt_key": ("",)}, {}, "", ["--jwt-key", "'' can't be used", "or 'none'"]),
        ({"cors_origins": ("https://a.example", " ")}, {}, "", ["--cors-origin", "'' can't be used"]),
        ({}, {}, 'allowed-hosts = ""', ["newswire.toml, allowed-hosts", "'' can't be used"]),
        ({}, {}, "x = " + "[" * 5000, ["newswire.toml is no TOML file: it is nested too deeply"]),
        ({"log": "sqlite:///a%00b"}, {}, "", ["--log", "has no NUL"]),
    ],
)
def test_what_can_not_be_used_is_refused_where_it_stands(
    tmp_path: Path, flags: dict[str, str | tuple[str, ...]], environment: dict[str, str], file: str, says: list[str]
) -> None:
    """The message names the source, the value and what is allowed."""
    path = write(tmp_path, file) if file else None
    with pytest.raises(click.ClickException) as caught:
        load(serve, Settings, flags, environment, path)
    for words in says:
        assert words in str(caught.value)


def test_variables_of_kubernetes_and_of_other_commands_are_no_settings() -> None:
    """A service named newswire sets these in every pod."""
    environment = {"NEWSWIRE_SERVICE_HOST": "10.0.0.1", "NEWSWIRE_PORT_80_TCP": "x", "NEWSWIRE_URL": "http://x"}
    settings, _ = load(serve, Settings, {}, environment, None)
    assert settings == Settings()


def test_what_is_shown_can_be_given_back() -> None:
    """--show-config prints values in the words that the settings are read from."""
    given = {
        "NEWSWIRE_HEARTBEAT": "none",
        "NEWSWIRE_MAX_BODY": "64KiB",
        "NEWSWIRE_RETENTION": "a.>:max_age=36h,max_bytes=1MiB",
        "NEWSWIRE_CORS_ORIGINS": "https://a.example",
        "NEWSWIRE_GRACE": "90",
    }
    settings, _ = load(serve, Settings, {}, given, None)
    assert load(serve, Settings, {}, shown(settings), None)[0] == settings


def test_an_unknown_variable_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever set it may have meant something else: it stops nothing, and one sentence names it."""
    environment = {"NEWSWIRE_HSOT": "x", "NEWSWIRE_TEAM": "news", "NEWSWIRE_RELAY_ANY": "x", "NEWSWIRE_PORT": "9"}
    environment["NEWSWIRE_LEASE"] = "9s"
    settings, _ = load(serve, Settings, {}, environment, None)
    assert settings == Settings(port=9)
    assert capsys.readouterr().err.splitlines() == [
        "newswire: NEWSWIRE_HSOT is not read: did you mean NEWSWIRE_HOST?",
        "newswire: NEWSWIRE_TEAM is not read: no setting has this name",
        "newswire: NEWSWIRE_LEASE is not read: it is one of `newswire relay`: write lease below [relay], or "
        "NEWSWIRE_RELAY_LEASE",
    ]


def test_names_to_answer_to() -> None:
    """As people write them; what is no host name is refused."""
    settings, _ = load(serve, Settings, {"allowed_hosts": ("News.example.org", "*.a.example", "[::1]")}, {}, None)
    assert settings.allowed_hosts == ("news.example.org", "*.a.example", "[::1]")
    for wrong in ("https://a.example", "a.example:80", "a/b", "*.*", "a b@c"):
        with pytest.raises(click.ClickException, match="no scheme, no port"):
            load(serve, Settings, {"allowed_hosts": (wrong,)}, {}, None)
