"""One version: the package, the command, npm's package, the changelog and the pages name the same."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

import newswire
from newswire.cli.main import newswire as command

ROOT: Final = Path(__file__).parents[1]

# Each place that names the version, by what stands around it.
PLACES: Final = {
    "docs/versions.md": r"This page is about newswire ([\d.]+)\.",
    "docs/server.md": r"^newswire ([\d.]+) on http",
    "docs/relay.md": r"^newswire ([\d.]+) relays on http",
    "docs/deploy/kubernetes.yaml": r"/newswire:([\d.]+)$",
    "docs/deploy/conda-recipe.yaml": r'^  version: "([\d.]+)"$',
    "src/newswire/browser/newswire.js": r"^// newswire ([\d.]+), made from",
}


def test_the_package_and_the_command() -> None:
    """`pyproject.toml`, `newswire.__version__`, `newswire --version` and the npm package agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == newswire.__version__
    assert json.loads((ROOT / "js" / "package.json").read_text())["version"] == newswire.__version__
    said = CliRunner().invoke(command, ["--version"])
    assert (said.exit_code, said.output) == (0, f"newswire, version {newswire.__version__}\n")


@pytest.mark.parametrize("place", PLACES)
def test_a_page_names_this_version(place: str) -> None:
    """Where a page or a file names the version, it is this one."""
    assert set(re.findall(PLACES[place], (ROOT / place).read_text(), re.MULTILINE)) == {newswire.__version__}


def test_the_changelog_begins_with_this_version() -> None:
    """Or with what comes after it. Each version has its date, or says that it is not released yet."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert released[0].partition(" ")[0] == newswire.__version__
    for heading in released:
        assert re.fullmatch(r"\d+\.\d+\.\d+ \((?:\d{4}-\d\d-\d\d|not released yet)\)", heading), heading
    assert headings in (released, ["Unreleased", *released])
