"""Events that are declared once, in the OpenAPI document too: `newswire run examples.contract_app:app`.

`newswire types examples.contract_app:events --ts events.ts` writes the types for a page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from fastapi import FastAPI
from pydantic import BaseModel

from newswire import Event, EventSourceResponse, Hub, channel
from newswire.contract import Contract, TypedEvent, describe_fastapi


class Step(BaseModel):
    title: str
    done: float


class Report(BaseModel):
    url: str
    pages: int


ReportEvent = (
    TypedEvent[Literal["step"], Step] | TypedEvent[Literal["report"], Report] | TypedEvent[Literal["failed"], None]
)
events: Contract[ReportEvent] = Contract("reports", ReportEvent)
hub = Hub("memory://", contract=events)
app = FastAPI(lifespan=hub.lifespan)


@app.get("/reports/{name}")
async def report(name: str) -> EventSourceResponse:
    """The steps of a report, then where it is."""

    async def make() -> AsyncIterator[Event]:
        yield events.encode(Step(title="reading", done=0.5))
        yield events.encode(Report(url=f"/files/{channel(name)}.pdf", pages=3))

    return EventSourceResponse(make())


describe_fastapi(app, {"/reports/{name}": events})
