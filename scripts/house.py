"""Prints how large and how entangled newswire is: `python scripts/house.py [REVISION...]`.

Counts the lines, modules and public classes below `src/newswire`, the modules that only one other module imports, and
the circles of imports with those for types counted; then runs two small programs and counts the modules that each
passes through. Each revision of the repository gets a column, and the work tree the last.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent

# What both programs start with: which files of newswire have code that runs while `on` is set.
TRACE: Final = """
import asyncio, inspect, sys, threading
seen, on = set(), False
def profile(frame, event, argument):
    if on and event == "call" and "/newswire/" in frame.f_code.co_filename:
        seen.add(frame.f_code.co_filename)
threading.setprofile(profile)
sys.setprofile(profile)
from newswire import EventSourceResponse, Hub
from newswire.runs import Runs
from starlette.requests import Request

class Client:
    def __init__(self, **headers):
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "raw_path": b"/",
            "root_path": "", "scheme": "http", "query_string": b"", "headers": raw, "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2), "extensions": {}, "asgi": {"version": "3.0"}}
        self.body, self.more, self.gone = b"", asyncio.Event(), asyncio.Event()
    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}
    async def send(self, message):
        self.body += message.get("body", b"")
        self.more.set()
    async def until(self, text, times=1):
        while self.body.count(text) < times:
            self.more.clear()
            await self.more.wait()
    def start(self, app):
        return asyncio.create_task(app(self.scope, self.receive, self.send))
"""

PUBLISH: Final = """
async def main(url):
    global on
    async with Hub(url) as hub:
        client = Client()
        task = client.start(EventSourceResponse(hub.subscribe("news")))
        await client.until(b"id:")
        await hub.publish("news", {"number": 1})
        await client.until(b'"number"')
        on = True
        await hub.publish("news", {"number": 2})
        await client.until(b'"number"', 2)
        on = False
        client.gone.set()
        await task
asyncio.run(main(sys.argv[1]))
print(len(seen))
"""

ATTACH: Final = """
public = {"public": True} if "public" in inspect.signature(Runs).parameters else {}

async def main(url):
    global on
    async with Hub(url) as hub, Runs(hub, **public) as runs:
        go = asyncio.Event()
        async def tokens():
            for word in ("one ", "two ", "three "):
                yield word
            await go.wait()
        run = await runs.start("chat.1", tokens())
        def reader(**headers):
            client = Client(**headers)
            request = Request(client.scope)
            return client, client.start(runs.response(request, run.id, dialect="openai-chat"))
        client, task = reader()
        await client.until(b"three")
        client.gone.set()
        await task
        ids = [line[3:].strip().decode() for line in client.body.splitlines() if line.startswith(b"id:")]
        on = True
        client, task = reader(last_event_id=ids[len(ids) // 2])
        await client.until(b"three")
        on = False
        client.gone.set()
        await task
        go.set()
        await run.wait()
asyncio.run(main(sys.argv[1]))
print(len(seen))
"""


def main() -> None:
    """Print a table with a column for each revision."""
    parser = argparse.ArgumentParser(description="Prints how large and how entangled newswire is.")
    parser.add_argument("revisions", nargs="*", metavar="REVISION", help="of the repository, beside the work tree")
    revisions = parser.parse_args().revisions
    columns = []
    for revision in revisions:
        with tempfile.TemporaryDirectory() as folder:
            archive = subprocess.run(["git", "archive", revision, "src"], cwd=ROOT, capture_output=True)
            if archive.returncode:
                parser.error(archive.stderr.decode().strip())
            with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
                files.extractall(folder, filter="data")
            columns.append(measure(Path(folder) / "src"))
    columns.append(measure(ROOT / "src"))
    width = max(map(len, columns[0]))
    print(" " * width, *(f"{name:>9}" for name in [*revisions, "work tree"]))
    for name in columns[0]:
        print(f"{name:{width}}", *(f"{column[name]:>9,}" for column in columns))


def measure(source: Path) -> dict[str, int]:
    """All figures of one tree."""
    house = House(source)
    circles = list(house.circles())
    figures = {
        "lines": sum(len(text.splitlines()) for text in house.texts.values()),
        "modules": len(house.texts),
        "modules with one importer": sum(len(house.importers(name)) == 1 for name in house.modules()),
        "import circles, types counted": len(circles),
        "modules in circles": sum(map(len, circles)),
        "public classes": sum(house.public_classes(name) for name in house.texts),
    }
    for log in ("memory://", "sqlite:///house.db"):
        figures[f"modules that a publish passes, {log.partition(':')[0]}"] = passed(source, PUBLISH, log)
        figures[f"modules that a resumed OpenAI reader passes, {log.partition(':')[0]}"] = passed(source, ATTACH, log)
    return figures


def passed(source: Path, program: str, log: str) -> int:
    """How many files of newswire a program runs through; -1 if it fails there."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", TRACE + program, log]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return -1
    return int(done.stdout)


class House:
    """The modules below one `src`, and which imports which: names are followed to the module that defines them.

    Attributes:
        texts: the source of each module.
    """

    def __init__(self, source: Path) -> None:
        files = {name_of(path.relative_to(source)): path for path in sorted(source.rglob("*.py"))}
        self.texts = {name: path.read_text() for name, path in files.items()}
        self._trees = {name: ast.parse(text) for name, text in self.texts.items()}
        self._packages = {name for name, path in files.items() if path.name == "__init__.py"}
        self._exports = {
            package: {
                alias.asname or alias.name: (home, alias.name) for home, alias in self._imported(package) if alias
            }
            for package in self._packages
        }
        self.imports = {name: set(self._imports(name)) - {name} for name in self.texts}

    def modules(self) -> Iterator[str]:
        """All but the packages' own files, which only say what is exported."""
        return (name for name in self.texts if name not in self._packages)

    def importers(self, module: str) -> set[str]:
        """The modules that import this one."""
        return {name for name in self.modules() if module in self.imports[name]}

    def public_classes(self, module: str) -> int:
        """How many classes without an underscore stand at the top of a module."""
        nodes = self._trees[module].body
        return sum(isinstance(node, ast.ClassDef) and not node.name.startswith("_") for node in nodes)

    def circles(self) -> Iterator[set[str]]:
        """The groups of modules that import each other, however far around (Tarjan)."""
        graph = {name: self.imports[name] - self._packages for name in self.modules()}
        index: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []

        def visit(name: str) -> Iterator[set[str]]:
            index[name] = low[name] = len(index)
            stack.append(name)
            for other in graph[name]:
                if other not in index:
                    yield from visit(other)
                if other in stack:
                    low[name] = min(low[name], low[other])
            if low[name] == index[name]:
                at = stack.index(name)
                circle = set(stack[at:])
                del stack[at:]
                if len(circle) > 1:
                    yield circle

        for name in graph:
            if name not in index:
                yield from visit(name)

    def _imports(self, module: str) -> Iterator[str]:
        for home, alias in self._imported(module):
            yield self._defining(home, alias.name) if alias else home

    def _imported(self, module: str) -> Iterator[tuple[str, ast.alias | None]]:
        """From where a module imports which names; None: the module itself."""
        for node in ast.walk(self._trees[module]):
            if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "") in self.texts:
                yield from ((node.module or "", alias) for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from ((alias.name, None) for alias in node.names if alias.name in self.texts)

    def _defining(self, home: str, name: str) -> str:
        """The module that defines a name which a module or a package gives."""
        if f"{home}.{name}" in self.texts:
            return f"{home}.{name}"
        if home in self._packages and name in self._exports[home]:
            return self._defining(*self._exports[home][name])
        return home


def name_of(path: Path) -> str:
    """`newswire/log/base.py` is `newswire.log.base`."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


if __name__ == "__main__":
    main()
