"""A chat with an AI. Markdown is drawn while it comes, and an answer survives refreshes and kills: it is a run.

CHAT_MODEL_URL: an API in OpenAI's format, such as `python -m examples.chat.model 8001`. Without it, a script answers.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from newswire import AsyncEventSource, EventSourceResponse, Hub, channel, last_event_id
from newswire.browser import FILES
from newswire.runs import RunAccepted, RunOptions, RunResponse, Runs, RunWriter, WorkerOptions

SCRIPT = Path(__file__).with_suffix(".md").read_text()
MODEL, PACE = os.environ.get("CHAT_MODEL_URL"), float(os.environ.get("CHAT_PACE", "0.02"))  # seconds a word

hub = Hub("sqlite:///chat.db")
runs = Runs(hub, public=True, worker=WorkerOptions(lease=2, path="/runs/{id}"), options=RunOptions(takeover=True))


async def tokens(messages: list[dict[str, str]], so_far: str) -> AsyncIterator[str]:
    if not MODEL:
        for word in re.findall(r"\S+\s*|\s+", SCRIPT.replace("QUESTION", messages[-1]["content"])[len(so_far) :]):
            yield word
            await asyncio.sleep(PACE)
        return
    messages = messages + [{"role": "assistant", "content": so_far}] * bool(so_far)
    asked = {"messages": messages, "stream": True, "max_tokens": 400, "temperature": 0, "repeat_penalty": 1.1}
    async with AsyncEventSource(f"{MODEL}/v1/chat/completions", body=asked) as coming:
        async for event in coming:
            if event.data == "[DONE]":
                return
            for choice in event.json()["choices"]:
                yield choice["delta"].get("content") or ""


@runs.producer
async def answer(run: RunWriter, messages: list[dict[str, str]]) -> None:
    """Write the answer. A process that takes over asks the model to go on."""
    async for token in tokens(messages, await run.text() if run.taken_over else ""):
        await run.write(token)


async def ask(request: Request) -> Response | RunAccepted:
    """Start an answer and tell all tabs. The same key never starts a second one."""
    chat, question = channel("chat", request.path_params["chat"]), (await request.body()).decode(errors="replace")
    if not 0 < len(question.strip()) <= 2000:
        return Response("a question has 1 to 2000 characters", 400)
    page, _ = await hub.history(chat, limit=1000)
    messages: list[dict[str, str]] = []
    for turn in [json.loads(entry.data) for entry in page.entries][-3:]:
        text = await (await runs.get(turn["run"])).text()
        messages += [{"role": "user", "content": turn["question"]}, {"role": "assistant", "content": text}]
    args = {"messages": [*messages, {"role": "user", "content": question}]}
    run = await runs.start(chat, answer, args=args, key=request.headers.get("idempotency-key"))
    await hub.publish(chat, {"run": run.id, "question": question}, event="question", idempotency_key=run.id)
    return runs.accepted(request, run)


async def questions(request: Request) -> EventSourceResponse:
    chat = channel("chat", request.path_params["chat"])
    return EventSourceResponse(hub.subscribe(chat, after=last_event_id(request), start="earliest", live=True))


async def read(request: Request) -> RunResponse:
    return runs.response(request, request.path_params["id"])


async def stop(request: Request) -> JSONResponse:
    return JSONResponse({"stopped": await runs.stop(request.path_params["id"])})


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with hub, runs:  # goes on with what a killed process has left
        yield


app = Starlette(
    routes=[
        Route("/", lambda request: FileResponse(Path(__file__).with_suffix(".html"))),
        Route("/markdown.js", lambda request: FileResponse(Path(__file__).parents[1] / "chat/page/markdown.js")),
        Route("/chats/{chat}", questions),
        Route("/chats/{chat}", ask, methods=["POST"]),
        Route("/runs/{id}", read),
        Route("/runs/{id}/stop", stop, methods=["POST"]),
        *(Route(path, file) for path, file in FILES.items()),
    ],
    lifespan=lifespan,
)
