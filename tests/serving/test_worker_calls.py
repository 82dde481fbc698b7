"""Questions between the workers of a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from newswire.serving import worker_calls
from newswire.serving.worker_calls import WorkerCalls

pytestmark = pytest.mark.anyio


async def test_each_worker_answers_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Itself too. One that was killed, one that never answers and one that fails have no answer."""
    monkeypatch.setattr(worker_calls, "_SECONDS", 0.5)

    def made(name: str) -> WorkerCalls:
        async def answer(question: dict[str, Any]) -> Any:
            if question["x"] == "fail":
                raise RuntimeError("on purpose")
            return {"from": name, "x": question["x"]}

        return WorkerCalls(tmp_path, name, answer)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    one, other, killed = made("a"), made("b"), made("c")
    stuck = await asyncio.start_unix_server(silent, tmp_path / "d.sock")
    (tmp_path / "c.sock").touch()
    await one.open()
    await other.open()
    assert one.workers() == ["a", "b", "c", "d"]
    assert await one.ask("b", {"x": "ü" * 100_000}) == {"from": "b", "x": "ü" * 100_000}
    assert await one.ask_all({"x": 1}) == [{"from": "a", "x": 1}, {"from": "b", "x": 1}]
    assert await killed.ask("a", {"x": "fail"}) is None
    await other.close()
    assert one.workers() == ["a", "c", "d"]
    await one.close()
    stuck.close()


async def test_a_single_process_asks_itself() -> None:
    """Without a folder there are no others."""

    async def answer(question: dict[str, Any]) -> Any:
        return question

    calls = WorkerCalls(None, "only", answer)
    await calls.open()
    assert calls.workers() == ["only"]
    assert await calls.ask_all({"x": 1}) == [{"x": 1}]
    assert await calls.ask("other", {}) is None
    await calls.close()
