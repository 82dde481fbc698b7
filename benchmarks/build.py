"""Compiles the C programs of the benchmarks, once for each version of their source.

The floor server and the load generator are C, because Python can't go fast enough to measure Python. Called by the
benchmarks that need one; never at import.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
BUILD: Final = _HERE / ".build"  # programs; also files of a run, which belong on a disk: /tmp may be memory
_FLAGS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


class BuildError(RuntimeError):
    """A C program can't be built; the message says what to do."""


def built(name: str) -> Path:
    """The path of the program made from `benchmarks/{name}.c`, which is compiled if it has changed.

    Raises:
        BuildError: there is no C compiler, or it refuses.
    """
    source = _HERE / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes() + " ".join(_FLAGS).encode()).hexdigest()[:12]
    program = BUILD / f"{name}-{digest}"
    if program.exists():
        return program
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BuildError(
            f"benchmarks/{name}.c needs a C compiler, and there is no cc, gcc or clang on the PATH: "
            "install one (`apt install gcc`, `xcode-select --install`), or name one in CC"
        )
    BUILD.mkdir(exist_ok=True)
    unfinished = program.with_suffix(f".{os.getpid()}")  # two runs at once must not read half a program
    done = subprocess.run(
        [compiler, *_FLAGS, "-o", str(unfinished), str(source)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"{compiler} can't compile benchmarks/{name}.c:\n{done.stderr}")
    unfinished.rename(program)
    return program
