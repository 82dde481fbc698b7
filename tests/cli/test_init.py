"""`newswire init` and `newswire completion`."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import click
import pytest
from tests.fixtures.serve import NEWSWIRE, call_newswire, run_newswire
from tests.fixtures.settings import load

from newswire.cli.init import settings_file
from newswire.cli.relay import relay
from newswire.cli.serve import serve
from newswire.relay.settings import RelaySettings
from newswire.server import Settings
from newswire.serving.settings import ServerSettings


@pytest.mark.parametrize(
    ("command", "of", "flags"),
    [(serve, Settings, {}), (relay, RelaySettings, {"upstreams": ("https://api.example",)})],
)
def test_the_file_lists_each_setting_with_its_default(
    tmp_path: Path, command: click.Command, of: type[ServerSettings], flags: dict[str, tuple[str, ...]]
) -> None:
    """Without its comment signs it gives the defaults, each from the file."""
    text = settings_file()
    assert tomllib.loads(text) == {"relay": {}}
    file = tmp_path / "newswire.toml"
    file.write_text(re.sub(r"^#(?=[a-z-]+ = )", "", text, flags=re.MULTILINE))
    settings, sources = load(command, of, flags, {}, file)
    given = {name: getattr(settings, name) for name in flags}
    assert settings == of(**given)
    assert set(sources) == {one.name for one in fields(of)}
    assert all(source.startswith(str(file)) for name, source in sources.items() if name not in given)
    assert max(map(len, text.splitlines())) <= 120


def test_init_writes_a_file_that_serve_reads_and_replaces_none(tmp_path: Path) -> None:
    """A file that is there is kept unless --force is given."""
    done = run_newswire("init", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "newswire.toml"
    assert file.read_text() == settings_file()
    file.write_text("port = 9000\n")
    done = call_newswire("init", folder=tmp_path)
    assert done.returncode == 1
    assert "newswire.toml is there already: give --force" in done.stderr.decode()
    assert file.read_text() == "port = 9000\n"
    assert call_newswire("init", "--force", folder=tmp_path).returncode == 0
    assert file.read_text() == settings_file()
    done = call_newswire("init", "no/such/folder/x.toml", folder=tmp_path)
    assert done.returncode == 1
    assert "no such file or directory" in done.stderr.decode()


def test_half_a_file_is_none(tmp_path: Path) -> None:
    """Where the disk is full, or a file may not be so large, none is left: `serve` would read it as settings."""
    command = f"ulimit -f 1; exec {shlex.quote(str(NEWSWIRE))} init"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == b"Error: newswire.toml can't be written: file too large\n"
    assert [*tmp_path.iterdir()] == []


# What asks each shell for the completions of `newswire pub`.
ASK = {
    "bash": "COMP_WORDS=(newswire pub); COMP_CWORD=1; _newswire_completion newswire; echo ${COMPREPLY[@]}",
    "fish": "complete --do-complete 'newswire pub'",
}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.slow
def test_completion_in_shells_that_are_here(shell: str, tmp_path: Path) -> None:
    """The script is one that the shell takes, and it finds the command."""
    done = run_newswire("completion", shell, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "_NEWSWIRE_COMPLETE" in done.stdout.decode()
    if shutil.which(shell) is None:
        return  # its script was printed
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    script = done.stdout.decode() if shell != "zsh" else ""
    program = script + "\n" + ASK.get(shell, "exit")
    asked = subprocess.run([shell, "-c", program], capture_output=True, env={"PATH": path, "HOME": str(tmp_path)})
    assert asked.returncode == 0, asked.stderr
    assert shell == "zsh" or "publish" in asked.stdout.decode()
