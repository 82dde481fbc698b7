"""The code in docs/relay.md runs, against `newswire relay` before a real small language model."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tests.docs.test_docs import ROOT, blocks
from tests.fixtures.llm import LLM
from tests.fixtures.serve import Serve
from tests.fixtures.settings import load

from newswire.cli.relay import relay as command
from newswire.relay.settings import RelaySettings
from newswire.runs import DIALECTS
from newswire.serving.settings import flag_of

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
            block = block.replace("http://127.0.0.1:8100", server.url)
            result = eval(compile(block, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
            if inspect.isawaitable(result):
                await result
            if "client" in names and hasattr(names["client"], "close"):
                names["client"].close()
    *said, last = [line for line in capsys.readouterr().out.splitlines() if line]
    assert last == "done"
    assert len(" ".join(said)) > 40


def test_the_file_of_the_page(tmp_path: Path) -> None:
    """It is one that the relay takes."""
    [text] = blocks(PAGE, "toml")
    file = tmp_path / "newswire.toml"
    file.write_text(text)
    settings, sources = load(command, RelaySettings, {}, {}, file)
    assert [upstream.name for upstream in settings.upstreams] == ["", "anthropic"]
    assert settings.keep_for == 7 * 86_400
    assert sources["log"] == f"{file}, [relay] log"


def test_the_page_names_what_there_is() -> None:
    """Each of its flags is one of the command's, and its dialect exists."""
    text = PAGE.read_text()
    flags = set(re.findall(r"--[a-z][a-z-]+", text)) - {"--help"}
    assert len(flags) > 4
    assert flags <= {flag for option in command.params for flag in option.opts}
    table = text.partition("| flag |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`--([a-z-]+)`", table))
    assert named == {flag_of(one).removeprefix("--") for one in fields(RelaySettings)}
    assert {f"NEWSWIRE_RELAY_{name}" for name in re.findall(r"(?:NEWSWIRE_RELAY|…)_([A-Z_]+)", table)} == {
        RelaySettings.variable(one.name) for one in fields(RelaySettings)
    }
    assert set(re.findall(r"dialect=([a-z][a-z-]+)", text)) <= DIALECTS.keys()
