"""Each benchmark runs at a tiny size; tables and the results page hold what they are given. Figures are not judged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` stands beside the package and is not installed

from benchmarks.__main__ import available, main  # noqa: E402
from benchmarks.report import DOCS, Table, shown, write_docs  # noqa: E402

# test_soak.py runs the soak in a longer form.
SMOKED = [name for name in available() if name != "soak"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks use /proc and epoll")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", SMOKED)
def test_runs_and_prints_a_table(name: str) -> None:
    """A benchmark at its smallest ends well and prints a table."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--smoke", name],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert f"python -m benchmarks {name}" in done.stdout
    assert "-----" in done.stdout


@linux
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["state", "--page", "chat"], "--page is for `heap`"),
        (["heap", "--page", "chat", "--write-docs"], "the results page, which has all pages"),
        (["fanout", "--minutes", "1"], "--minutes is for `heap` or `soak`"),
        (["heap", "--rate", "0"], "more than 0"),
    ],
)
def test_options_that_fit_no_benchmark(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are refused before anything runs."""
    with pytest.raises(SystemExit):
        main(arguments)
    assert says in " ".join(capsys.readouterr().err.split())


@linux
def test_unknown_name_is_refused() -> None:
    """A name that is no benchmark ends with status 2 and the names that there are."""
    command = [sys.executable, "-m", "benchmarks", "nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "fanout" in done.stderr


def test_every_benchmark_has_a_place_on_the_results_page() -> None:
    """`--write-docs` finds where each benchmark's results belong."""
    page = DOCS.read_text(encoding="utf-8")
    for name in available():
        assert page.index(f"<!-- results of {name} -->") < page.index(f"<!-- end of {name} -->")


def test_table_refuses_a_row_of_another_width() -> None:
    """A row must have a cell for each column."""
    with pytest.raises(ValueError, match="a row of 1 cells under 2 columns"):
        Table("t", ("a", "b"), [["x"]])


def test_numbers_show_three_digits_that_count() -> None:
    """Cells show what can be trusted of them, and a dash where there is nothing."""
    assert [shown(cell) for cell in (1234.5, 12.34, 1.234, 12345, None)] == ["1,234", "12.3", "1.23", "12,345", "–"]


def test_results_replace_what_stood_between_their_markers(tmp_path: Path) -> None:
    """Writing results keeps the page around them, and a page without a place for them is refused."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results of x -->\nold\n<!-- end of x -->\nafter\n")
    write_docs("x", "python -m benchmarks x", [Table("new", ("a",), [["b"]])], path=page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| b |" in text
    with pytest.raises(LookupError, match="no place for y"):
        write_docs("y", "command", [], path=page)
