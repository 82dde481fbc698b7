"""The docs site, built once for all processes of a test run, and what its pages have."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]


def build(shared: Path, below: str) -> Path:
    """Build the site strictly, unless another process of this run has done so. Returns its folder, named as `below`."""
    site = shared / "docs-site" / below
    with (shared / "docs-site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not site.exists():
            made = subprocess.run(
                [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
                cwd=ROOT,
                env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
                capture_output=True,
                text=True,
            )
            if made.returncode or made.stdout or made.stderr:
                pytest.fail((made.stdout + made.stderr)[-2000:], pytrace=False)
    return site


@dataclass
class Built(HTMLParser):
    """One page of the site.

    Attributes:
        ids: its anchors.
        links: what its links and pictures lead to.
        headings: the levels of its headings, in order.
        without_alt: pictures without a text.
        title: its title.
    """

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    headings: list[int] = field(default_factory=list)
    without_alt: list[str] = field(default_factory=list)
    title: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._inside = ""
        self._article = False

    @classmethod
    def of(cls, text: str) -> Built:
        page = cls()
        page.feed(text)
        return page

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self._inside = tag
        self._article |= tag == "article"
        if "id" in given:
            self.ids.add(given["id"])
        for name in ("href", "src"):
            if name in given and not (tag == "link" and given.get("rel") == "canonical"):
                self.links.append(given[name])
        if self._article and len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))
        if tag == "img" and "alt" not in given:
            self.without_alt.append(given.get("src", ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        self._article &= tag != "article"

    def handle_data(self, data: str) -> None:
        if self._inside == "title" and not self.title:
            self.title = data
