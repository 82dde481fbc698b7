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
from tests.fixtures.node import node

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    """What a node program prints; it must succeed."""
    done = subprocess.run([node(), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_units() -> None:
    """js/test passes in node's own test runner."""
    run("--test", "js/test/*.test.ts")


def test_the_types() -> None:
    """`tsc --strict` accepts the package; a wrong name or field and a missing case are errors (js/test/types.ts)."""
    run("node_modules/typescript/bin/tsc", "-p", "js/tsconfig.json", "--noEmit")


def test_the_served_file_is_fresh() -> None:
    """`newswire.js` in the wheel is what js/src gives: after a change, `make js`."""
    run("js/build.mjs", "--check")


def test_the_core_is_small() -> None:
    """`connect`, with resume, back-off and watchdog, weighs at most 4.5 KB with gzip."""
    sizes: list[dict[str, Any]] = json.loads(run("js/sizes.mjs", "--json"))
    core = next(one for one in sizes if one["name"].startswith("core"))
    assert round(core["gzip"] / 1024, 1) <= 4.5, sizes


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `npm pack` makes in its node_modules, and React."""
    folder = tmp_path_factory.mktemp("application")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    npm = shutil.which("npm", path=path)
    assert npm is not None, "no npm: run `make setup`"
    pack = [npm, "pack", "--json", "--pack-destination", str(folder)]
    subprocess.run(
        pack, cwd=ROOT / "js", capture_output=True, check=True, timeout=100, env={**os.environ, "PATH": path}
    )
    (packed,) = folder.glob("newswire-*.tgz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder / "node_modules", filter="data")
    (folder / "node_modules" / "package").rename(folder / "node_modules" / "newswire")
    for name in ("react", "react-dom", "scheduler", "@types", "csstype"):
        (folder / "node_modules" / name).symlink_to((ROOT / "node_modules" / name).resolve())
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


@pytest.mark.slow
def test_what_npm_would_publish(application: Path) -> None:
    """`npm pack` builds the package: each entry point is there, runs under node, and has types and a map."""
    packed = application / "node_modules" / "newswire"
    names = {path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file()}
    package = json.loads((packed / "package.json").read_text())
    assert {"package.json", "README.md", "LICENSE", "src/index.ts", "dist/index.js.map"} <= names
    assert not [name for name in names if name.startswith(("test", "node_modules"))]
    assert "dependencies" not in package
    for entry in package["exports"].values():
        for target in [entry] if isinstance(entry, str) else entry.values():
            assert target.removeprefix("./") in names
    program = """
      import { connect, EventSource, SourceError, streamRun, streamChat, resumeRun } from "newswire";
      import { useEvents, useRun } from "newswire/react";
      import { EventSource as Same } from "newswire/eventsource";
      console.log(Same === EventSource && [connect, SourceError, streamRun, streamChat, resumeRun, useEvents, useRun]
        .every((one) => typeof one === "function"));
    """
    (application / "try.mjs").write_text(program)
    done = subprocess.run([node(), "try.mjs"], cwd=application, capture_output=True, text=True, check=True)
    assert done.stdout == "true\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "resolution",
    [
        ("--module", "node16"),
        ("--module", "nodenext"),
        ("--module", "esnext", "--moduleResolution", "bundler"),
        ("--module", "preserve"),
    ],
    ids="-".join,
)
def test_the_types_are_found(application: Path, resolution: tuple[str, ...]) -> None:
    """Each entry point has its types, however TypeScript resolves modules; the package's own are checked too."""
    (application / "try.ts").write_text(
        'import { connect } from "newswire";\n'
        'import { useEvents } from "newswire/react";\n'
        'import { connect as inOneFile } from "newswire/newswire.js";\n'
        'inOneFile<Events>("/x").on("price", (e) => e.data.value.toFixed());\n'
        'import { EventSource } from "newswire/eventsource";\n'
        "interface Events { price: { value: number } }\n"
        'connect<Events>("/x").on("price", (e) => e.data.value.toFixed());\n'
        "// @ts-expect-error: no such event\n"
        'connect<Events>("/x").on("prise", () => {});\n'
        'export const maybe = (signal?: AbortSignal) => connect("/x", { signal, backoff: { cap: undefined } });\n'
        "export const inPlaceOfTheDom: typeof globalThis.EventSource = EventSource;\n"
        'export const Shown = () => useEvents<Events>("/x", { price: (e) => e.data.value.toFixed() }).state;\n'
    )
    tsc = str(ROOT / "node_modules" / "typescript" / "bin" / "tsc")
    options = [
        "--strict",
        "--exactOptionalPropertyTypes",
        "--verbatimModuleSyntax",
        "--noEmit",
        "--target",
        "es2022",
        "--lib",
        "es2023,dom",
        "--skipLibCheck",
        "false",
    ]
    done = subprocess.run(
        [node(), tsc, *options, *resolution, "--types", "", "try.ts"], cwd=application, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_server_renders_the_hooks(application: Path) -> None:
    """Where there is no DOM, the package loads, and the hooks draw their first state and open nothing."""
    program = """
      import { createElement } from "react";
      import { renderToString } from "react-dom/server";
      import { useEvents, useRun } from "newswire/react";
      globalThis.fetch = () => { throw new Error("it opens a stream"); };
      function Shown() {
        const { state } = useEvents("/x", { message() {} }, { shared: true });
        return `${state} ${useRun("/y", { remember: "chat" }).state}`;
      }
      console.log(renderToString(createElement(Shown)), typeof document);
    """
    (application / "render.mjs").write_text(program)
    done = subprocess.run([node(), "render.mjs"], cwd=application, capture_output=True, text=True, check=True)
    assert done.stdout == "connecting idle undefined\n"


@pytest.mark.slow
def test_a_bundler_leaves_out_what_a_page_does_not_use(application: Path) -> None:
    """`connect` alone brings no runs and no class; what it loads on request is in files of its own."""
    (application / "page.js").write_text('import { connect } from "newswire";\nconnect("/channels/news");\n')
    program = f"""
      import {{ build }} from {json.dumps((ROOT / "node_modules/esbuild/lib/main.js").as_uri())};
      const {{ metafile }} = await build({{ entryPoints: ["page.js"], bundle: true, splitting: true, minify: true,
        format: "esm", outdir: "out", metafile: true }});
      const files = Object.entries(metafile.outputs);
      const from = ([, {{ inputs }}]) => Object.keys(inputs).map((path) => path.split("/").at(-1)).sort();
      const [first] = files.filter(([path]) => path.endsWith("page.js"));
      const later = files.filter(([, {{ entryPoint }}]) => entryPoint?.includes("newswire")).flatMap(from);
      console.log(JSON.stringify([from(first), later.sort()]));
    """
    (application / "bundle.mjs").write_text(program)
    done = subprocess.run([node(), "bundle.mjs"], cwd=application, capture_output=True, text=True, check=True)
    first, later = json.loads(done.stdout)
    assert {"connect.js", "page.js"} <= set(first)
    assert not {"run.js", "eventsource.js", "react.js", "shared.js", "leader.js", "native.js"} & set(first)
    assert later == ["leader.js", "messages.js", "native.js", "shared.js"]


@pytest.mark.slow
def test_a_part_that_can_not_be_loaded_ends_no_connection(application: Path) -> None:
    """After a deployment the file of `shared: true` may be gone: the page has a connection of its own then."""
    (application / "gone.js").write_text(
        """
        import { connect } from "newswire";
        globalThis.location ??= new URL("http://a.test/");
        Object.defineProperty(globalThis, "navigator", { value: { locks: {} } });
        const answer = { headers: { "content-type": "text/event-stream" } };
        const fetch = async () => new Response("data: 1\\n\\n", answer);
        const source = connect("http://a.test/news", { shared: true, reconnect: false, fetch });
        source.on("*", ({ data }) => console.log(data));
        await source.closed;
        """
    )
    program = f"""
      import {{ rmSync }} from "node:fs";
      import {{ build }} from {json.dumps((ROOT / "node_modules/esbuild/lib/main.js").as_uri())};
      const {{ metafile }} = await build({{ entryPoints: ["gone.js"], bundle: true, splitting: true,
        format: "esm", outdir: "out", metafile: true }});
      const outputs = Object.entries(metafile.outputs);
      const parts = outputs.filter(([, {{ entryPoint }}]) => entryPoint?.endsWith("shared.js"));
      for (const [path] of parts) rmSync(path);
      console.log(parts.length);
      await import("./out/gone.js");
    """
    (application / "without.mjs").write_text(program)
    done = subprocess.run([node(), "without.mjs"], cwd=application, capture_output=True, text=True)
    assert done.stdout == "1\n1\n", done.stderr
