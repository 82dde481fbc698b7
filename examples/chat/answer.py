"""The producer of an answer: it asks the model over HTTP, and writes to the run what comes, token by token.

Its arguments are stored with the run, so whichever process has it registered can start it again when the first one was
killed. Then it asks the model to go on with the text so far. At temperature 0 that is the text that would have come.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic, time
from typing import Any, Final

import httpx2

from newswire import Decoder
from newswire.errors import RunFailed
from newswire.runs import Data, RunWriter

Message = dict[str, str]  # `role` and `content`, as OpenAI's API has them

# A small model repeats itself without a penalty. Nothing here is random, so an answer can be gone on with exactly.
SAMPLING: Final = {"temperature": 0, "repeat_penalty": 1.1}
SPEED_SECONDS: Final = 0.25


class Answerer:
    """Answers with a model.

    Args:
        url: the model's address, without `/v1`; None if there is none.
        missing: why there is none.
        most: tokens that an answer may have.
    """

    def __init__(self, url: str | None, missing: str, most: int) -> None:
        self.url = url
        self.missing = missing or "no model: set CHAT_MODEL_URL to the address of llama.cpp's server"
        self.most = most

    async def answer(self, run: RunWriter, messages: list[Message]) -> dict[str, Any]:
        """Write the answer to a run; see the module.

        Args:
            run: where to; if it is taken over, it has a part of the answer already.
            messages: the conversation.

        Returns:
            figures: `tokens`, `rate` (tokens a second), and `first`, the seconds to the first of them.
        """
        if self.url is None:
            raise RunFailed(self.missing)
        meter = Meter(run)
        async with httpx2.AsyncClient(base_url=self.url, timeout=60) as client:
            if run.taken_over:
                so_far = await run.text()
                meter.tokens = await count_tokens(client, so_far)
                told = {"pid": os.getpid(), "at": len(so_far), "t": milliseconds()}
                run.put(Data("takeover", json.dumps(told)))
                messages = [*messages, {"role": "assistant", "content": so_far}] if so_far else messages
            left = self.most - meter.tokens
            asked = {"messages": messages, "max_tokens": left, "stream": True, **SAMPLING}
            if left > 0:
                async with completion(client, asked) as tokens:
                    async for token in tokens:
                        await run.write(token)
                        meter.count()
        return meter.tell()


class Meter:
    """Counts tokens, and tells readers of the run how fast they come."""

    def __init__(self, run: RunWriter) -> None:
        self.tokens = 0
        self._run = run
        self._begun = self._told = monotonic()
        self._first: float | None = None
        self._counted = 0

    def count(self) -> None:
        """One more token has come."""
        self.tokens += 1
        self._counted += 1
        now = monotonic()
        if self._first is None:
            self._first = now
        elif now - self._told < SPEED_SECONDS:
            return
        self._told = now
        self._run.put(Data("speed", json.dumps({**self.tell(), "t": milliseconds()})))

    def tell(self) -> dict[str, Any]:
        """The figures so far."""
        if self._first is None:
            return {"tokens": self.tokens}
        spent = monotonic() - self._first
        rate = (self._counted - 1) / spent if spent > 0 else 0.0
        return {"tokens": self.tokens, "first": round(self._first - self._begun, 3), "rate": round(rate, 1)}


def milliseconds() -> int:
    """Now, by the clock: the one thing that a process has in common with the one that it takes over from."""
    return round(time() * 1000)


@asynccontextmanager
async def completion(client: httpx2.AsyncClient, asked: dict[str, Any]) -> AsyncIterator[AsyncIterator[str]]:
    """Ask for a completion; its tokens come while the block lasts. Leaving the block stops the model."""
    async with client.stream("POST", "/v1/chat/completions", json=asked) as reply:
        if reply.status_code != 200:
            said = (await reply.aread()).decode(errors="replace")
            raise RunFailed(f"the model answered {reply.status_code}: {said[:300]}")
        yield _tokens(reply)


async def _tokens(reply: httpx2.Response) -> AsyncIterator[str]:
    decoder = Decoder()
    async for data in reply.aiter_raw():
        for event in decoder.feed(data):
            if event.data == "[DONE]":
                return
            chunk = event.json()
            if "error" in chunk:
                raise RunFailed(f"the model failed: {chunk['error'].get('message')}")
            for choice in chunk["choices"]:
                if token := choice["delta"].get("content"):
                    yield token
    raise RunFailed("the model's answer broke off")


async def count_tokens(client: httpx2.AsyncClient, text: str) -> int:
    """How many tokens a text has for the model."""
    reply = await client.post("/tokenize", json={"content": text})
    return len(reply.raise_for_status().json()["tokens"])
