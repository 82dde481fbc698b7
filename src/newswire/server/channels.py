"""`GET /channels`: the channels that are alive and the patterns that streams subscribe to, in the order of their names.

A channel is alive if a stream subscribes to it, or if it is one of the few thousand that had an event most recently.
The streams of all workers count. A page costs a pass over the names of each worker, some at a time.
"""

from __future__ import annotations

import asyncio
import heapq
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse

from newswire.hub.latest import is_within
from newswire.log.channels import Pattern, check_pattern, is_internal, name_or_pattern
from newswire.server.connections import page_limit
from newswire.server.query import Query
from newswire.server.service import Service, service_of

_NO_STORE: Final = {"cache-control": "no-store"}
_SLICE: Final = 2000  # names: about a millisecond


async def channels(request: Request) -> JSONResponse:
    """The channels and patterns after `?after=`, of `?channel=`."""
    service = service_of(request)
    await service.allow(request, "observe")
    query = Query(request.scope["query_string"])
    query.only("channel", "limit", "after", also=service.parameters)
    channel = query.one("channel")
    if channel is not None:
        check_pattern(channel)
    limit = page_limit(query)
    question = {"ask": "channels", "after": query.one("after") or "", "limit": limit + 1, "channel": channel}
    streams: dict[str, int] = {}
    for answer in await service.calls.ask_all(question):
        for name, count in answer.items():
            streams[name] = streams.get(name, 0) + count
    names = heapq.nsmallest(limit + 1, streams)
    more, names = len(names) > limit, names[:limit]
    seen = service.activity.of(names)
    found: list[dict[str, Any]] = []
    for name in names:
        if isinstance(name_or_pattern(name), Pattern):
            found.append({"name": name, "kind": "pattern", "subscribers": streams[name]})
        else:
            one = seen.get(name)
            counted = {"events": 0, "last": None} if one is None else {"events": one.events, "last": one.last}
            found.append({"name": name, "kind": "channel", "subscribers": streams[name], **counted})
    return JSONResponse({"channels": found, "next": names[-1] if more else None}, headers=_NO_STORE)


async def own_channels(service: Service, question: dict[str, Any]) -> dict[str, int]:
    """The first names after `after` in this process, at most `limit`, with their numbers of streams."""
    index = (await service.hub.runtime()).index
    after, wanted = question["after"], question["channel"]
    patterns = service.patterns()
    names = [*service.activity.names(), *index.names(), *patterns]
    found: set[str] = set()
    for begin in range(0, len(names), _SLICE):
        fitting = [
            name
            for name in names[begin : begin + _SLICE]
            if name > after and not is_internal(name) and (wanted is None or is_within(name, wanted))
        ]
        found = set(heapq.nsmallest(question["limit"], found.union(fitting)))
        await asyncio.sleep(0)
    return {name: patterns.get(name, count) for name, count in service.readers(found).items()}
