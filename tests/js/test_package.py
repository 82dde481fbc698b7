"""The npm package in `js/`: its own tests, its types, what it weighs, and what npm would publish."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NODE = next(
    str(path) for path in (Path(sys.executable).parent / "node", shutil.which("node")) if path and Path(path).exists()
)


def node(*arguments: str) -> str:
    """What a node program prints; it must succeed."""
    done = subprocess.run([NODE, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_units() -> None:
    """js/test passes in node's own test runner."""
    node("--test", "js/test/*.test.ts")


def test_the_types() -> None:
    """`tsc --strict` accepts the package; a wrong name or field and a missing case are errors (js/test/types.ts)."""
    node("node_modules/typescript/bin/tsc", "-p", "js/tsconfig.json", "--noEmit")


def test_the_served_file_is_fresh() -> None:
    """`newswire.js` in the wheel is what js/src gives: after a change, `make js`."""
    node("js/build.mjs", "--check")


def test_the_core_is_small() -> None:
    """`connect`, with resume, back-off and watchdog, weighs at most 4 KB with gzip."""
    sizes: list[dict[str, Any]] = json.loads(node("js/sizes.mjs", "--json"))
    core = next(one for one in sizes if one["name"].startswith("core"))
    assert core["gzip"] <= 4096, sizes


@pytest.mark.slow
def test_what_npm_would_publish(tmp_path: Path) -> None:
    """`npm pack` builds the package: each entry point is there, runs under node, and has types and a map."""
    npm = Path(NODE).with_name("npm")
    pack = [str(npm), "pack", "--json", "--pack-destination", str(tmp_path)]
    path = f"{Path(NODE).parent}:{os.environ['PATH']}"
    subprocess.run(
        pack, cwd=ROOT / "js", capture_output=True, check=True, timeout=100, env={**os.environ, "PATH": path}
    )
    (packed,) = tmp_path.glob("newswire-*.tgz")
    with tarfile.open(packed) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
        archive.extractall(tmp_path / "node_modules", filter="data")
    (tmp_path / "node_modules" / "package").rename(tmp_path / "node_modules" / "newswire")
    package = json.loads((tmp_path / "node_modules" / "newswire" / "package.json").read_text())
    assert {"package.json", "README.md", "LICENSE", "src/index.ts", "dist/index.js.map"} <= names
    assert not [name for name in names if name.startswith(("test", "node_modules"))]
    assert "dependencies" not in package
    for entry in package["exports"].values():
        for target in [entry] if isinstance(entry, str) else entry.values():
            assert target.removeprefix("./") in names
    (tmp_path / "node_modules" / "react").symlink_to((ROOT / "node_modules" / "react").resolve())
    program = """
      import { connect, EventSource, SourceError, streamRun, streamChat, resumeRun } from "newswire";
      import { useEvents, useRun } from "newswire/react";
      import { EventSource as Same } from "newswire/eventsource";
      console.log(Same === EventSource && [connect, SourceError, streamRun, streamChat, resumeRun, useEvents, useRun]
        .every((one) => typeof one === "function"));
    """
    (tmp_path / "try.mjs").write_text(program)
    done = subprocess.run([NODE, "try.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "true\n"
    (tmp_path / "try.ts").write_text(
        'import { connect } from "newswire";\n'
        'import { useEvents } from "newswire/react";\n'
        "interface Events { price: { value: number } }\n"
        'connect<Events>("/x").on("price", (e) => e.data.value.toFixed());\n'
        'export const Shown = () => useEvents<Events>("/x", { price: (e) => e.data.value.toFixed() }).state;\n'
    )
    types = (ROOT / "node_modules" / "@types").resolve()
    (tmp_path / "node_modules" / "@types").symlink_to(types)
    (tmp_path / "node_modules" / "csstype").symlink_to((ROOT / "node_modules" / "csstype").resolve())
    tsc = str(ROOT / "node_modules" / "typescript" / "bin" / "tsc")
    options = ["--strict", "--noEmit", "--module", "nodenext", "--target", "es2022", "--lib", "es2023,dom"]
    subprocess.run([NODE, tsc, *options, "--types", "", "try.ts"], cwd=tmp_path, check=True)
