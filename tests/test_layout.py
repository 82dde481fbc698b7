"""Tests mirror `src/newswire` by name: `tests/log/test_retry.py` tests `log/retry.py`. A class's name is of one class.

A test of a module or package may add words to its name: `test_sqlite_fork.py` tests `log/sqlite`. The tests below hold
promises that several modules keep together, and so have names of their own.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
SOURCE: Final = TESTS.parent / "src" / "newswire"

# Folders that test something else than src/newswire: other folders of the repository, or all of it in a browser.
OTHERS: Final = ("benchmarks", "browser", "docs", "examples", "fixtures", "fuzz", "js")

ACROSS: Final = {
    "client/test_dialects": "the examples, against recorded services",
    "client/test_faults": "a random walk",
    "client/test_other_hubs": "servers of others",
    "client/test_standard_connection": "the HTML standard, sentence by sentence",
    "client/test_standard_stream": "the HTML standard, sentence by sentence",
    "delivery/test_connections": "what stands between a stream and its client",
    "delivery/test_plain": "delivery without delivery/fast",
    "delivery/test_vanished": "clients that vanish, on a real server",
    "hub/test_a_log_in_trouble": "a random walk",
    "hub/test_every_subscriber": "a random walk",
    "integrations/test_frameworks": "each framework's application",
    "hub/test_programs": "the ways in which people start programs",
    "integrations/test_langgraph": "langgraph-api and its client",
    "integrations/test_pools": "streams of every framework beside a database",
    "log/test_jsonl": "an engine that only tests have",
    "log/test_values": "positions, channels and rules of retention",
    "relay/test_clients": "the official clients",
    "runs/dialects/test_real_model": "a real model",
    "runs/test_owners": "whose a run is, from its id to its response",
    "runs/test_processes": "several processes",
    "runs/test_standstill": "a random walk over several processes",
    "runs/test_trouble": "runs on a log that fails",
    "server/test_cursors": "cursors over HTTP",
    "server/test_hostile": "attackers and mistakes",
    "server/test_life": "several workers, and a server that stops",
    "server/test_logs_in_trouble": "a log that is away, wiped or put back",
    "server/test_on_shared_logs": "several servers",
    "server/test_operator": "what an operator sees",
    "server/test_query": "queries over HTTP",
    "server/test_security": "an attacker's ways, one by one",
    "server/test_serve": "`newswire serve` as a process",
    "test_dist": "what is published",
    "test_layout": "this file",
    "test_version": "one version in all places",
    "test_public": "what the package exports",
    "testing/test_kit": "the whole kit",
}


def modules() -> list[str]:
    """The test modules that have to mirror a module, without `.py`."""
    found = (path.relative_to(TESTS).with_suffix("") for path in TESTS.rglob("test_*.py"))
    return sorted(path.as_posix() for path in found if path.parts[0] not in OTHERS)


def is_mirror(module: str) -> bool:
    """Whether src/newswire has a module or package that this one is named after."""
    path = Path(module)
    words = path.name.removeprefix("test_").split("_")
    names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    folder = SOURCE / path.parent
    return any(
        (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists() or folder.name == name
        for name in names
    )


def test_each_test_module_mirrors_a_module() -> None:
    """Each test module is named after what it tests, or is listed above, and the list has no others."""
    assert {module for module in modules() if not is_mirror(module)} == set(ACROSS)


def test_one_class_has_a_name() -> None:
    """Who searches for a public class's name finds one, but where a framework prescribes the name."""
    names = Counter(
        node.name
        for path in SOURCE.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    prescribed = {"Command", "EventSourceResponse"}  # Django's, and FastAPI's and sse-starlette's
    assert {name for name, count in names.items() if count > 1} == prescribed
