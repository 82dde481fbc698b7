"""Stream what a generator makes, and stop making it when the client leaves: `newswire run examples.tokens:app`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from newswire import Event, EventSourceResponse


async def tokens(text: str) -> AsyncIterator[str | dict[str, str] | Event]:
    try:
        for word in text.split():
            yield {"token": word}  # a dict goes out as JSON, a str as it is
            await asyncio.sleep(0.05)
        yield Event("[DONE]", event="end")
    finally:
        print("the generator is closed", flush=True)


async def answer(request: Request) -> EventSourceResponse:
    return EventSourceResponse(tokens(request.query_params.get("text", "an answer comes word by word")))


app = Starlette(routes=[Route("/answer", answer)])
