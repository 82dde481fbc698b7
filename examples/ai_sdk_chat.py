"""The endpoints that `useChat` of Vercel's AI SDK expects: `newswire run examples.ai_sdk_chat:app`, and in the page

const { messages, sendMessage } = useChat({ id, resume: true })

With `resume` a page that was loaded again goes on with the answer that is under way; 204 says that there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from newswire import Hub
from newswire.runs import RunResponse, Runs

runs = Runs(Hub("memory://"), public=True)  # with users: owner=request.user.identity, in each call


async def answer(messages: list[dict[str, Any]]) -> AsyncIterator[str]:
    asked = "".join(part.get("text", "") for part in messages[-1]["parts"])
    for word in f"You asked: {asked}".split(" "):
        await asyncio.sleep(0.05)  # stands for a model
        yield word + " "


async def chat(request: Request) -> RunResponse:
    body = await request.json()
    last = body["messages"][-1]["id"]  # a request that is sent again finds its answer
    run = await runs.start(f"chat.{body['id']}", answer(body["messages"]), key=last)
    return runs.response(request, run, dialect="ai-sdk")


async def resume(request: Request) -> RunResponse:
    return runs.response(request, name=f"chat.{request.path_params['id']}", dialect="ai-sdk", active=True)


app = Starlette(
    routes=[Route("/api/chat", chat, methods=["POST"]), Route("/api/chat/{id}/stream", resume)],
)
