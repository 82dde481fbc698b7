"""The TypeScript of docs/browser.md compiles as it stands, in strict mode."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.docs.test_docs import FENCE, ROOT
from tests.fixtures.node import node
from tests.fixtures.tsc import TSC

PAGE = ROOT / "docs" / "browser.md"
SOURCE = ROOT / "js" / "src"
MODULES = {"newswire": "index.ts", "newswire/react": "react.ts", "newswire/eventsource": "eventsource.ts"}


@pytest.mark.slow
def test_the_typescript_compiles(tmp_path: Path) -> None:
    """Each block is a module that has all its imports; the one that others import from has its name as a title."""
    found = [fence for fence in FENCE.finditer(PAGE.read_text()) if fence[1] in ("ts", "tsx")]
    assert len(found) >= 6
    for number, fence in enumerate(found):
        title = fence[0].partition('title="')[2].partition('"')[0]
        (tmp_path / (title or f"block{number}.{fence[1]}")).write_text(fence[2])
    options = json.loads((ROOT / "js" / "tsconfig.json").read_text())["compilerOptions"] | {
        "module": "esnext",
        "moduleResolution": "bundler",
        "jsx": "react-jsx",
        "noUnusedLocals": False,
        "noUnusedParameters": False,
        "erasableSyntaxOnly": False,
        "paths": {name: [str(SOURCE / file)] for name, file in MODULES.items()},
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.ts", "*.tsx"]}))
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    done = subprocess.run([node(), str(TSC), "-p", str(tmp_path)], capture_output=True, text=True, timeout=110)
    assert done.stdout + done.stderr == ""
