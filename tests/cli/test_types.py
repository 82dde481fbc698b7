"""`newswire types`: files of a contract, whether they are stale, and what breaks readers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

import pytest
from tests.fixtures.serve import run_newswire
from tests.fixtures.tsc import tsc

pytestmark = pytest.mark.slow

SHOP: Final = """
from dataclasses import dataclass
from newswire.contract import Contract

@dataclass
class Price:
    symbol: str
    value: {kind}

events = Contract("shop", {{"price": Price, "done": None}})
other = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a contract in it."""
    (tmp_path / "shop.py").write_text(SHOP.format(kind="float"))
    (tmp_path / "later.py").write_text(SHOP.format(kind="float | None"))
    (tmp_path / "fails.py").write_text("1 / 0")
    (tmp_path / "needs.py").write_text("import nowhere")
    (tmp_path / "awaits.py").write_text("await open()")
    return tmp_path


def types(*arguments: str, folder: Path) -> tuple[int, str, str]:
    done: subprocess.CompletedProcess[bytes] = run_newswire("types", *arguments, folder=folder)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_stale_file_fails_the_check_and_the_message_renews_it(folder: Path) -> None:
    """Missing, fresh, stale, fresh again; the check writes nothing."""
    arguments = ("shop:events", "--ts", "events.ts", "--json-schema", "events.json", "--asyncapi", "async.json")
    status, _, says = types(*arguments, "--check", folder=folder)
    assert status == 1
    assert "stale: events.ts, events.json, async.json" in says
    assert not (folder / "events.ts").exists()
    assert types(*arguments, folder=folder) == (0, "", "")
    assert types(*arguments, "--check", folder=folder) == (0, "", "")
    assert tsc(folder) == ""
    assert json.loads((folder / "async.json").read_text())["asyncapi"] == "3.0.0"
    before = (folder / "events.json").stat().st_mtime_ns
    types(*arguments, folder=folder)
    assert (folder / "events.json").stat().st_mtime_ns == before
    (folder / "shop.py").write_text(SHOP.format(kind="str"))
    status, _, says = types("shop:events", "--ts", "events.ts", "--check", folder=folder)
    assert status == 1
    renew = says.partition("Renew: newswire ")[2].split()
    assert renew == ["types", "shop:events", "--ts", "events.ts"]
    assert types(*renew[1:], folder=folder) == (0, "", "")
    assert types("shop:events", "--ts", "events.ts", "--check", folder=folder)[0] == 0


def test_diff_says_what_breaks_readers_of_modules_and_files(folder: Path) -> None:
    """Exit code 1 if something does; the other way round nothing does."""
    types("shop:events", "--json-schema", "old.json", folder=folder)
    status, says, _ = types("diff", "old.json", "later:events", folder=folder)
    assert status == 1
    assert says.splitlines() == [
        "breaks  price.value: may now be null; it was a number",
        "1 change breaks readers, 0 safe",
    ]
    status, says, _ = types("diff", "later:events", "old.json", "--json", folder=folder)
    assert status == 0
    assert json.loads(says) == [{"breaking": False, "place": "price.value", "what": "is not null any more"}]
    assert types("diff", "shop:events", "old.json", folder=folder)[:2] == (0, "no reader sees a difference\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere:events"], "there is no module 'nowhere'"),
        (["shop:event"], "module 'shop' has no 'event'; it has events"),
        (["shop:other"], "shop:other is of type int, and no newswire.contract.Contract"),
        (["shop"], "'shop' is not MODULE:CONTRACT"),
        (["fails:events"], "fails can't be imported: ZeroDivisionError: division by zero\n  fails.py, line 1: 1 / 0"),
        (["needs:events"], "needs can't be imported: ModuleNotFoundError: No module named 'nowhere'"),
        (["awaits:events"], "SyntaxError: 'await' outside function"),
        (["shop:events", "--check"], "--check compares files: name them"),
        (["shop:events", "--ts", "no/such/folder/x.ts"], "can't be written: there is no folder no/such/folder"),
        (["diff", "no.json", "shop:events"], "no.json can't be read"),
        (["diff", "shop.py", "shop:events"], "shop.py: "),
        (["diff", "shop:events"], "Missing argument"),
        ([], "MODULE:CONTRACT"),
    ],
)
def test_mistakes(folder: Path, arguments: list[str], says: str) -> None:
    """Each is one sentence and exit code 2; what an application's module raises is shown with its own lines alone."""
    status, _, error = types(*arguments, folder=folder)
    assert (status, says in error, "Traceback" in error) == (2, True, False), error


def test_typescript_goes_to_standard_output_where_no_file_is_named(folder: Path) -> None:
    """And a file of - is standard output too."""
    status, written, _ = types("shop:events", folder=folder)
    assert status == 0
    assert 'export type Events = {\n  "price": Price;\n  "done": null;\n};' in written
    assert json.loads(types("shop:events", "--json-schema", "-", folder=folder)[1])["title"] == "shop"
