"""Runs delivery's tests on the oldest and the newest uvicorn and Starlette that pyproject.toml allows, fast and plain.

`make delivery-versions`, or `python scripts/delivery_versions.py [arguments of pytest]`. Each pair has a virtual
environment in a temporary folder, above the packages of the environment that runs this.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("uvicorn", "starlette")
# What needs nothing of delivery/fast.
_PLAIN = ("test_stream", "test_iterable", "test_response", "test_response_release", "test_plain")
PLAIN = [f"tests/delivery/{name}.py" for name in _PLAIN]
# It runs the files of PLAIN, which this does itself.
AGAIN = "tests/delivery/test_plain.py::test_streams_are_right_without_fast"
# What an old Starlette lacks: our FastAPI needs a newer one.
NEWER = re.compile(r"(?:from|import) (?:fastapi|starlette\.middleware\.body_limit)")


def tests(fast: str, age: str) -> list[str]:
    """The files to run."""
    files = sorted((ROOT / "tests/delivery").rglob("test_*.py")) if fast == "on" else [ROOT / name for name in PLAIN]
    return [str(file) for file in files if age == "newest" or not NEWER.search(file.read_text())]


def environment(folder: Path, wanted: list[str]) -> Path:
    """Make a virtual environment with these packages. Returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    [packages] = folder.glob("lib/python*/site-packages")
    beneath = [sysconfig.get_path("purelib"), str(ROOT / "src")]
    (packages / "beneath.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in beneath))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--ignore-installed"]
    subprocess.run([*pip, *wanted], check=True)
    _commands(folder / "bin", python)
    return python


def _commands(bin_: Path, python: Path) -> None:
    """The commands of the packages beneath: scripts run by this Python, and programs as they are."""
    for file in Path(sys.executable).parent.iterdir():
        new = bin_ / file.name
        if new.exists() or not file.is_file():
            continue
        script = file.read_bytes()
        if script.startswith(b"#!") and b"python" in script.partition(b"\n")[0]:
            new.write_bytes(f"#!{python}\n".encode() + script.partition(b"\n")[2])
            new.chmod(0o755)
        else:
            new.symlink_to(file)


def main(arguments: list[str]) -> int:
    """Run all; return 1 if a test failed."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["server"]
    least = {found[1]: found[2] for one in extras if (found := re.match(r"(\w+)>=([\d.]+)", one))}
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for name, wanted in (
            ("oldest", [f"{package}=={least[package]}" for package in PACKAGES]),
            ("newest", [f"{package}>={least[package]}" for package in PACKAGES]),
        ):
            python = environment(Path(folder) / name, wanted)
            for fast in ("on", "off"):
                print(f"-- {name} {' '.join(wanted)}, delivery/fast {fast}", flush=True)
                quiet = ["-W", "ignore::DeprecationWarning"]  # an old Starlette's, of what it uses itself
                command = [python, "-m", "pytest", "-q", *quiet, "--deselect", AGAIN, *tests(fast, name), *arguments]
                if subprocess.run(command, cwd=ROOT, env={**os.environ, "NEWSWIRE_FAST": fast}).returncode:
                    failed.append(f"{name}, {fast}")
    print("failed: " + "; ".join(failed) if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
