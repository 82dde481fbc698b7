"""Every option, variable and key of the commands is on a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from tests.docs.test_docs import ROOT, blocks
from tests.fixtures.settings import load

from newswire.cli.main import newswire
from newswire.cli.serve import serve
from newswire.server import Settings
from newswire.serving.settings import flag_of, type_of

CLI = (ROOT / "docs" / "cli.md").read_text()
SERVER = (ROOT / "docs" / "server.md").read_text()


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


@pytest.mark.parametrize("name", ["publish", "tail", "run", "token", "ticket", "key", "top"])
def test_the_options_of_a_command_are_in_its_section(name: str) -> None:
    """Each option has its place there; each flag in its tables exists; its variable is named."""
    command = newswire.get_command(click.Context(newswire), name)
    assert command is not None
    section = CLI.partition(f"## newswire {name}")[2].partition("\n## ")[0]
    options = [one for one in command.params if isinstance(one, click.Option)]
    for option in options:
        assert any(flag in flags_in(section) for flag in option.opts), option.opts
        if option.envvar is not None:
            assert f"`{option.envvar}`" in section
    tables = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    assert flags_in(tables) <= {flag for option in options for flag in option.opts}


def test_the_settings_of_the_server_are_in_its_table() -> None:
    """With the flag, the variable and the default, in the words in which they are given."""
    table = SERVER.partition("| flag | environment | default |")[2].partition("\n\n")[0]
    assert flags_in(table) == {flag_of(one) for one in fields(Settings)}
    named = {f"NEWSWIRE_{name}" for name in re.findall(r"`(?:NEWSWIRE|…)_([A-Z_]+)`", table)}
    assert named == {Settings.variable(one.name) for one in fields(Settings)}
    for one in fields(Settings):
        [row] = [line for line in table.splitlines() if f"`{flag_of(one)}`" in line]
        assert type_of(one).show(one.default) in row, one.name
    for option in ("--config", "--show-config", "NEWSWIRE_CONFIG"):
        assert option in SERVER


def test_the_file_of_the_page(tmp_path: Path) -> None:
    """It is one that the server takes."""
    [text] = blocks(ROOT / "docs" / "server.md", "toml")
    file = tmp_path / "newswire.toml"
    file.write_text(text)
    settings, sources = load(serve, Settings, {}, {}, file)
    assert settings.max_body == 256 * 1024
    assert sources["retention"] == f"{file}, retention"


# Where the options of a command are explained, if not in its own section of docs/cli.md.
ELSEWHERE = {"serve": "server.md", "relay": "relay.md", "doctor": "doctor.md"}


def commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """All commands, with those of groups."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", each) for below, each in commands(command))
        yield name, command


def test_each_option_of_each_command_is_on_a_page() -> None:
    """A new command needs a section, a new option a place in it."""
    missing = []
    for name, command in commands(newswire):
        first = name.partition(" ")[0]
        text = CLI.partition(f"## newswire {first}")[2].partition("\n## ")[0]
        if first in ELSEWHERE:
            text += (ROOT / "docs" / ELSEWHERE[first]).read_text()
        for option in command.params:
            flags = set(option.opts) if isinstance(option, click.Option) and not option.hidden else set()
            if flags and not flags & flags_in(text) and "--help" not in flags:
                missing.append((name, *flags))
    assert missing == []
