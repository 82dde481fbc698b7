"""What `newswire` gives, and what importing it costs."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import newswire

ROOT = Path(__file__).parents[1]

# What newswire runs without, and what takes time to import.
HEAVY = ("asyncio", "ssl", "starlette", "uvicorn", "httpx2", "click", "rich", "prometheus_client", "anyio", "pytest")


def imported_by(code: str) -> set[str]:
    """The modules that a fresh interpreter imports for `code`."""
    program = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_newswire_imports_nothing_else() -> None:
    """`import newswire` reads one file of ours, no optional package and no event loop."""
    modules = imported_by("import newswire")
    assert [name for name in modules if name.startswith("newswire")] == ["newswire"]
    assert not modules & set(HEAVY)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ("Event, Decoder", HEAVY),
        ("Hub, HubOptions, Retention, Pattern, channel, open_log", ("starlette", "httpx2", "click", "anyio")),
        ("EventSource, AsyncEventSource", ("starlette", "uvicorn", "click")),
        ("Runs", ("httpx2", "click", "uvicorn")),
    ],
    ids=["wire", "hub", "client", "runs"],
)
def test_a_name_imports_only_what_it_needs(names: str, missing: tuple[str, ...]) -> None:
    """The first use of a name imports its part of newswire, and no optional package that this part does without."""
    assert not imported_by(f"from newswire import {names}") & set(missing)


@pytest.mark.parametrize("framework", ["aiohttp", "django", "flask", "litestar", "quart", "sanic", "wsgi"])
def test_an_integration_needs_its_framework_alone(framework: str) -> None:
    """`pip install newswire django` is enough: nothing of newswire's extras is needed."""
    absent = dict.fromkeys(("starlette", "uvicorn", "httptools", "httpx2", "prometheus_client", "jwt"))
    assert f"newswire.integrations.{framework}" in imported_by(
        f"sys.modules.update({absent}); import newswire.integrations.{framework}"
    )


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("server.app", {"httpx2", "newswire.client", "newswire.edge", "rich"}),
        ("cli.publish", {"asyncio", "rich", "newswire.log", "newswire.serving"}),
        ("cli.tail", {"httpx2", "rich", "newswire.log", "newswire.serving"}),
    ],
    ids=["server", "publish", "tail"],
)
def test_a_command_starts_with_what_it_needs(module: str, missing: set[str]) -> None:
    """A server loads no HTTP client, and a command that is called in a shell's loop no part of a server."""
    assert not imported_by(f"import newswire.{module}") & missing


def test_djangos_routes_say_which_extra_they_need() -> None:
    """An application with the server's routes needs the server's packages, and says how to install them."""
    program = (
        "import sys; sys.modules['starlette'] = None; import django.conf as conf; conf.settings.configure("
        "NEWSWIRE={'PREFIX': '/live', 'LOG': 'memory://'}); from newswire.integrations.django import asgi_application; "
        "asgi_application()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: newswire.server needs starlette, which is not installed: pip install 'newswire[server]'"
    )


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("from newswire.server.auth import Tokens; Tokens()", "verifying tokens needs jwt"),
        ("from newswire.server.auth import new_token; new_token('x' * 32, subject=None)", "making tokens needs jwt"),
        ("from newswire.server.auth import read_keys; read_keys('key.json')", "reading keys needs jwt"),
    ],
    ids=["verify", "make", "keys"],
)
def test_what_signs_says_which_extra_it_needs(
    call: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where PyJWT is missing an application learns at once what to install, and not at its first request."""
    (tmp_path / "key.json").write_text('{"kty": "oct", "k": "AAAA"}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ImportError, match=re.escape(f"{text}, which is not installed: pip install 'newswire[auth]'")):
        exec(call, {})


@pytest.mark.parametrize("more", ["secret='x'", "hub=Hub()"])
@pytest.mark.parametrize("missing", ["jwt", "starlette"])
def test_a_stream_server_with_tickets_says_which_extras_it_needs(more: str, missing: str) -> None:
    """Both at once, where it is made; without tickets it needs neither."""
    program = (
        f"import sys; sys.modules['{missing}'] = None; from newswire import Hub; "
        "from newswire.integrations.wsgi import StreamServer; print(StreamServer('/a').location(['a'])); "
        f"StreamServer('/a', {more})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "/a/channels/a\n"
    assert done.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: a StreamServer with tickets needs {missing}, which is not installed: "
        "pip install 'newswire[server,auth]'"
    )


def test_the_test_kit_needs_no_pytest() -> None:
    """`newswire.testing` can be used with any test runner; only its suites need pytest."""
    assert "pytest" not in imported_by(
        "from newswire.testing import BadServer, ChaosProxy, FakeClock, asgi_client, until"
    )
    assert "pytest" in imported_by("from newswire.testing import LogSuite")


def test_every_name_is_there() -> None:
    """Each name of `__all__` can be imported and is in `dir()`; no other name is made up."""
    assert {name: getattr(newswire, name).__name__ for name in newswire.__all__} == {n: n for n in newswire.__all__}
    assert set(newswire.__all__) == set(newswire._HOMES) <= set(dir(newswire))
    with pytest.raises(AttributeError, match="no attribute 'Event_Source'"):
        newswire.Event_Source  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        from newswire import nonsense  # noqa: F401


def test_public_packages_are_attributes() -> None:
    """`newswire.errors` and the other packages need no import of their own."""
    program = "import newswire; print(newswire.errors.NewswireError, newswire.client.Options)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "newswire.errors.NewswireError" in done.stdout


def test_the_reference_lists_all_that_is_public() -> None:
    """docs/reference.md names all that `__all__` of a public package or the tree of errors has, and says what it is."""
    done = subprocess.run([sys.executable, "scripts/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "reference.md").read_text()
    assert not re.findall(r"^\| `_.*", page, re.MULTILINE)
    assert not re.findall(r"^\| `\w+` \|  \|$", page, re.MULTILINE), "no docstring"


PUBLIC = re.findall(r"^## `([\w.]+)`$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))


@pytest.mark.parametrize("path", [*PAGES, *EXAMPLES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docs_and_examples_use_what_is_public(path: Path) -> None:
    """What pages and examples import is public, and they name nothing with a leading underscore but `__version__`."""
    text = path.read_text()
    imported = re.findall(r"^ *from (newswire[\w.]*) import (\([^)]*|[^(#\n]*)", text, re.MULTILINE)
    for module, names in imported:
        if path.parent.name in ("demo", "cluster") and module.split(".")[1:2] == ["cli"]:
            continue  # the demos start the server as the command does
        assert module in PUBLIC, f"{module} is not public"
        listed = getattr(importlib.import_module(module), "__all__", None)
        assert listed is None or set(re.findall(r"\w+", names)) <= set(listed), f"{module}: {names}"
    assert not re.findall(r"newswire(?:\.\w+)*\._(?!_version__)\w+", text)
