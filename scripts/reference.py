"""Writes docs/reference.md, the list of all that is public: `python scripts/reference.py [--check]`.

Public is what `__all__` of `newswire` and of the packages below lists, and every exception of `newswire.errors`. All
else may change in any release. `--check` only says whether the page is up to date.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parent.parent / "docs" / "reference.md"
PACKAGES: Final = (
    "newswire",
    "newswire.wire",
    "newswire.log",
    "newswire.hub.transform",
    "newswire.client",
    "newswire.contract",
    "newswire.runs",
    "newswire.runs.dialects",
    "newswire.otel",
    "newswire.relay",
    "newswire.server",
    "newswire.doctor",
    "newswire.server.auth",
    "newswire.integrations.aiohttp",
    "newswire.integrations.django",
    "newswire.integrations.fastapi",
    "newswire.integrations.flask",
    "newswire.integrations.litestar",
    "newswire.integrations.quart",
    "newswire.integrations.sanic",
    "newswire.integrations.sse_starlette",
    "newswire.integrations.starlette",
    "newswire.integrations.wsgi",
    "newswire.browser",
    "newswire.testing",
    "newswire.errors",
)
HEAD: Final = """# All that is public

Public is what `__all__` of `newswire` and of the packages below lists, and every exception of `newswire.errors`. All
else may change in any release. Each name's docstring says more: `help(newswire.Hub)`. `python scripts/reference.py`
writes this page.
"""


def names_of(package: str) -> list[str]:
    """The public names of a package, in order."""
    module = importlib.import_module(package)
    if package == "newswire.errors":
        return [name for name, value in vars(module).items() if is_error(value) and not name.startswith("_")]
    return list(module.__all__)


def is_error(value: Any) -> bool:
    """Whether it is an exception of newswire's own."""
    return isinstance(value, type) and issubclass(value, Exception) and value.__module__ == "newswire.errors"


def first_line(value: Any) -> str:
    """What a docstring says in its first sentence; of a value without one, its type."""
    if inspect.isclass(value) or inspect.isroutine(value):
        paragraph = (inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ")
        sentence = paragraph.partition(". ")[0].rstrip(".:")
        return sentence.replace("|", "\\|")
    if isinstance(value, types.UnionType):  # which has another name in each Python
        return "one of several types"
    return f"a constant: `{type(value).__name__}`"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for package in PACKAGES:
        module = importlib.import_module(package)
        parts.append(f"\n## `{package}`\n\n| name | |\n| --- | --- |\n")
        parts += [f"| `{name}` | {first_line(getattr(module, name))} |\n" for name in names_of(package)]
    return "".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0 if PAGE.read_text(encoding="utf-8") == page() else "docs/reference.md: run `python scripts/reference.py`"
        )
    PAGE.write_text(page(), encoding="utf-8")
