"""What the docs site has beyond the Markdown files in docs/. MkDocs calls these functions while it builds.

* A page of the API for each public package, from the docstrings. `scripts/reference.py` says what is public.
* The page of changes, from CHANGELOG.md.
* The icon and the palette of all pages of newswire, from newswire.css.
* Links to files outside docs/, such as examples, lead to the repository.

It never writes into the repository.
"""

from __future__ import annotations

import ast
import gc
import importlib
import inspect
import posixpath
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parent.parent
LOOK: Final = ROOT / "src" / "newswire" / "browser"  # newswire.css and the logo
sys.path.insert(0, str(Path(__file__).parent))
import reference  # noqa: E402

# The section of a page that mkdocs.yml does not name, by its folder.
SECTIONS: Final = {"explain": "Explanation", "moving": "Moving over"}
# A link or a picture in Markdown: the text in brackets, the address, and its anchor.
LINK: Final = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
CODE: Final = re.compile(r"^( *```).*?^\1 *$", re.MULTILINE | re.DOTALL)


def on_startup(command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
    """Collect no garbage during a build: it makes millions of objects that stay, and ends soon."""
    if command == "build":
        gc.disable()


def on_shutdown() -> None:
    """Nor at its end."""
    gc.freeze()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put into the navigation: the API's pages, and the pages that mkdocs.yml does not name."""
    assert config.nav is not None
    sections: dict[str, list[Any]] = {
        title: pages for one in config.nav if isinstance(one, dict) for title, pages in one.items()
    }
    named = set(re.findall(r"[\w/.-]+\.md", str(config.nav)))
    for path in sorted((ROOT / "docs").rglob("*.md")):
        name = path.relative_to(ROOT / "docs").as_posix()
        if name not in named:
            sections[SECTIONS.get(name.rpartition("/")[0], "How to")].append(name)
    api = [f"api/{package}.md" for package in reference.PACKAGES]
    sections["Reference"].append({"Python API": ["reference.md", *api]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make the pages that are no files."""
    homes = homes_of_names()
    for package in reference.PACKAGES:
        files.append(File.generated(config, f"api/{package}.md", content=api_page(package, homes)))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    changes = LINK.sub(lambda link: link[1] + moved(link[2], config.extra["repository"]) + (link[3] or ""), changes)
    files.append(File.generated(config, "changelog.md", content=changes))
    files.append(File.generated(config, "assets/icon.svg", content=(LOOK / "newswire.svg").read_bytes()))
    files.append(File.generated(config, "assets/palette.css", content=palette()))
    return files


def palette() -> str:
    """The variables of newswire.css: its first block."""
    css = (LOOK / "newswire.css").read_text(encoding="utf-8")
    return css[css.index(":root {") : css.index("}", css.index(":root {")) + 1] + "\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of docs/ to the repository, and names in the list of all that is public to the API."""
    source = page.file.src_uri
    if source == "reference.md":
        return linked_names(markdown)
    if page.file.generated_by:
        return markdown
    repository = config.extra["repository"]

    def lead(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), link[2]))
        if target.startswith("docs/") and not (ROOT / target).is_dir():
            return link[0]
        return link[1] + address(target, repository) + (link[3] or "")

    return outside_code(markdown, lambda prose: LINK.sub(lead, prose))


def outside_code(markdown: str, change: Any) -> str:
    """Change the text of a page, and leave its code blocks alone."""
    parts, begin = [], 0
    for block in CODE.finditer(markdown):
        parts += [change(markdown[begin : block.start()]), block[0]]
        begin = block.end()
    return "".join([*parts, change(markdown[begin:])])


def address(target: str, repository: str) -> str:
    """Where a file or a folder of the repository is on the web."""
    path = ROOT / target
    if not path.exists():
        return target  # the strict build complains
    return f"{repository}/{'tree' if path.is_dir() else 'blob'}/main/{target}"


def moved(target: str, repository: str) -> str:
    """A link of a file at the root of the repository, as a link from a page of the site."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return address(target, repository)


def homes_of_names() -> dict[int, str]:
    """The package that documents each public object: the first that has it."""
    homes: dict[int, str] = {}
    for package in reference.PACKAGES:
        module = importlib.import_module(package)
        for name in reference.names_of(package):
            homes.setdefault(id(getattr(module, name)), f"{package}.{name}")
    return homes


def api_page(package: str, homes: dict[int, str]) -> str:
    """The page of a package: each name's docstring, or where it is."""
    module = importlib.import_module(package)
    parts = [f"---\nsearch:\n  boost: 0.5\n---\n\n# {package}\n\n{(module.__doc__ or '').strip()}\n"]
    for name in reference.names_of(package):
        path = f"{package}.{name}"
        home = homes[id(getattr(module, name))]
        if found := foreign(module, name):
            parts.append(f"\n## `{name}` {{ #{path} }}\n\n`{name}` of `{found}`.\n")
        elif home == path:
            parts.append(f"\n::: {path}\n")
        else:
            parts.append(f"\n## `{name}` {{ #{path} }}\n\nThe same as [`{home}`][{home}].\n")
    return "".join(parts)


def foreign(module: ModuleType, name: str) -> str:
    """The module of another package that a public name comes from, if it is not ours."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and name in [each.asname or each.name for each in node.names]:
            return "" if node.level or (node.module or "").startswith("newswire") else str(node.module)
    return ""


def linked_names(markdown: str) -> str:
    """The list of all that is public, each name with a link to its docstring."""
    package = ""
    lines = []
    for line in markdown.splitlines():
        if heading := re.fullmatch(r"## `([\w.]+)`", line):
            package = heading[1]
        lines.append(re.sub(r"^\| `(\w+)` \|", rf"| [`\1`][{package}.\1] |", line))
    return "\n".join(lines) + "\n"
