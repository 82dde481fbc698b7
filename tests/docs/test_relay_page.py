"""The code in docs/relay.md runs, against `newswire relay` before a real small language model."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from tests.docs.test_docs import ROOT, blocks
from tests.fixtures.llm import LLM
from tests.fixtures.serve import Serve

from newswire.cli.relay import relay as command
from newswire.runs import DIALECTS

PAGE = ROOT / "docs" / "relay.md"
pytestmark = pytest.mark.anyio


async def test_the_page(
    llm: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The official clients print an answer, and a request of one's own becomes a run that is done."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "a-key-of-a-user")
    upstreams = ("--upstream", llm.url, "--upstream", f"anthropic={llm.url}")
    with Serve(tmp_path, *upstreams, command="relay") as server:
        names: dict[str, Any] = {"key": "a-key-of-a-user"}
        for block in blocks(PAGE, "python"):
            block = block.replace("http://127.0.0.1:8000", server.url)
            result = eval(compile(block, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
            if inspect.isawaitable(result):
                await result
            if "client" in names and hasattr(names["client"], "close"):
                names["client"].close()
    *said, last = [line for line in capsys.readouterr().out.splitlines() if line]
    assert last == "done"
    assert len(" ".join(said)) > 40


def test_the_page_names_what_there_is() -> None:
    """Each of its flags is one of the command's, and its dialect exists."""
    text = PAGE.read_text()
    flags = set(re.findall(r"--[a-z][a-z-]+", text)) - {"--help"}
    assert len(flags) > 4
    assert flags <= {flag for option in command.params for flag in option.opts}
    assert set(re.findall(r"dialect=([a-z][a-z-]+)", text)) <= DIALECTS.keys()
