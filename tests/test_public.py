"""What `newswire` gives, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import newswire

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
