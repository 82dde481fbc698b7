"""A chat with a language model whose answers outlive refreshes, second tabs and `kill -9`.

Each answer is a run. A POST starts it, with a key that the page made, so that a request that is sent again starts
nothing twice; any number of pages read it, from wherever they were. `make demo` runs it beside the dashboard. Alone:

    python -m examples.chat.model 8001                                  # the model, in a process of its own
    CHAT_MODEL_URL=http://127.0.0.1:8001 newswire run examples.chat.app:app

The environment says more: CHAT_LOG, the log's URL; CHAT_LEASE, seconds after which readers know that a server has died;
CHAT_MAX_TOKENS, the length of an answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from examples.chat.answer import Answerer
from examples.chat.conversation import announce, channel, prompt, turns
from examples.chat.model import NAME
from examples.demo.kill import kill
from newswire import EventSourceResponse, Hub, StreamOptions, last_event_id
from newswire.browser import FILES
from newswire.errors import RunNotFound
from newswire.runs import RunAccepted, RunOptions, RunResponse, Runs, WorkerOptions

PAGE: Final = Path(__file__).with_name("page")
RETRY: Final = 500  # milliseconds: somebody is watching
MOST_QUESTION: Final = 2000  # characters
CHAT_ID: Final = re.compile(r"[0-9a-z]{6,40}")


class Chat:
    """The chat's part of an application.

    Args:
        hub: where conversations are kept.
        answerer: what answers.
        lease: see `WorkerOptions`.

    Attributes:
        runs: the answers. They have to be opened when the application starts: whoever was killed before may have left
            some to go on with.
    """

    def __init__(self, hub: Hub, answerer: Answerer, lease: float) -> None:
        self._hub = hub
        self._answerer = answerer
        self._stream = StreamOptions(retry=RETRY)
        worker = WorkerOptions(lease=lease, path="/chat/runs/{id}")
        self.runs = Runs(hub, public=True, worker=worker, stream=self._stream)
        self._answer = self.runs.producer(answerer.answer)

    def routes(self) -> list[BaseRoute]:
        """Its routes, all below `/chat`."""
        return [
            Route("/chat", moved),
            Route("/chat/kill", kill, methods=["POST"]),
            Route("/chat/chats/{chat}", self.conversation),
            Route("/chat/chats/{chat}/questions", self.questions),
            Route("/chat/chats/{chat}/questions", self.ask, methods=["POST"]),
            Route("/chat/runs/{id}", self.read),
            Route("/chat/runs/{id}/stop", self.stop, methods=["POST"]),
            Mount("/chat", StaticFiles(directory=PAGE, html=True)),
        ]

    async def conversation(self, request: Request) -> JSONResponse:
        """The conversation so far, and the cursor to follow it from."""
        known, cursor = await turns(self._hub, self.runs, chat_of(request))
        found = {
            "turns": [turn.as_json() for turn in known],
            "cursor": cursor,
            "model": None if self._answerer.url is None else NAME,
            "missing": self._answerer.missing if self._answerer.url is None else None,
            "pid": os.getpid(),
        }
        return JSONResponse(found, headers={"cache-control": "no-store"})

    async def questions(self, request: Request) -> EventSourceResponse:
        """Follow the conversation: one event for each question."""
        subscription = self._hub.subscribe(channel(chat_of(request)), after=last_event_id(request))
        return EventSourceResponse(subscription, options=self._stream)

    async def ask(self, request: Request) -> RunAccepted:
        """Start an answer: `question`, `key`, and whether another process may `takeover`."""
        chat = chat_of(request)
        question, key, takeover = await asked(request)
        known, _ = await turns(self._hub, self.runs, chat)
        run = await self.runs.start(
            channel(chat),
            self._answer,
            key=key,
            args={"messages": prompt(known, question)},
            meta={"question": question, "key": key, "model": NAME},
            options=RunOptions(takeover=takeover, timeout=600),
        )
        await announce(self._hub, chat, run, known)
        return self.runs.accepted(request, run)

    async def read(self, request: Request) -> RunResponse:
        """Read an answer, live or finished, from where the reader was."""
        return self.runs.response(request, request.path_params["id"])

    async def stop(self, request: Request) -> JSONResponse:
        """Stop an answer, whichever process makes it."""
        try:
            return JSONResponse({"stopped": await self.runs.stop(request.path_params["id"])})
        except RunNotFound as error:
            raise HTTPException(404, str(error)) from None


def chat_of(request: Request) -> str:
    """The chat that a path names."""
    chat = str(request.path_params["chat"])
    if not CHAT_ID.fullmatch(chat):
        raise HTTPException(404, "a chat's name is 6 to 40 small letters and digits")
    return chat


async def asked(request: Request) -> tuple[str, str, bool]:
    """The question, its key, and whether to take over. JSON only: another site's form can't send it."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise HTTPException(415, "questions are JSON")
    try:
        body = await request.json()
        question, key, takeover = body["question"], body["key"], body.get("takeover", True)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise HTTPException(400, "a question is a JSON object with `question` and `key`") from None
    if not (isinstance(question, str) and question.strip() and len(question) <= MOST_QUESTION):
        raise HTTPException(400, f"a question has 1 to {MOST_QUESTION} characters")
    if not (isinstance(key, str) and 0 < len(key) <= 100):
        raise HTTPException(400, "a key has 1 to 100 characters")
    return question, key, takeover is True


async def moved(request: Request) -> RedirectResponse:
    """The page's files are beside it, so its address ends with a slash."""
    return RedirectResponse("/chat/")


def make_chat(hub: Hub) -> Chat:
    """The chat that the environment describes."""
    url = os.environ.get("CHAT_MODEL_URL") or None
    most = int(os.environ.get("CHAT_MAX_TOKENS", "600"))
    answerer = Answerer(url, os.environ.get("CHAT_MODEL_MISSING", ""), most)
    return Chat(hub, answerer, float(os.environ.get("CHAT_LEASE", "2")))


def make() -> Starlette:
    """The chat alone."""
    hub = Hub(os.environ.get("CHAT_LOG", "sqlite:///chat.db"))
    chat = make_chat(hub)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with hub, chat.runs:
            yield

    look = [Route(path, file) for path, file in FILES.items()]  # newswire's own; `newswire serve` has them too
    return Starlette(routes=look + chat.routes(), lifespan=lifespan)


app = make()
