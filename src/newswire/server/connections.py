"""`GET /connections` and `GET /channels`: what is open and alive in all workers, page by page.

A page costs a bounded amount, however many streams are open: a worker looks at a few thousand of them for one page,
some at a time, and lets the event loop go on in between. So a page may be short, or empty, and still have a next one.

A channel is alive if a stream subscribes to it, or if it is one of the few thousand that had an event most recently. A
page of channels costs a pass over the names of each worker, some at a time.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request

from newswire.delivery.problem import Problem
from newswire.delivery.query import Query
from newswire.hub.subscription import Subscription
from newswire.log.channels import Channels, Pattern, check_pattern, covers, is_internal, name_or_pattern
from newswire.server.service import Service, service_of
from newswire.serving.answers import JsonAnswer

LIMIT: Final = 100
MOST: Final = 1000  # streams on one page
_LOOKED_AT: Final = 20_000  # streams for one page, in each worker
_SLICE: Final = 500  # some 200 µs
_CHANNELS: Final = 20  # of one stream


async def connections(request: Request) -> JsonAnswer:
    """The open streams, the oldest of each worker first."""
    service = service_of(request)
    await service.allow(request, "observe")
    query = Query(request.scope["query_string"])
    query.only("channel", "subject", "limit", "after", also=service.parameters)
    channel, subject = query.one("channel"), query.one("subject")
    if channel is not None:
        check_pattern(channel)
    limit = query.count("limit", MOST) or LIMIT
    first, _, begin = (query.one("after") or "").partition(":")
    if begin and not begin.isdecimal():
        raise Problem(400, "invalid_query", "after is the `next` of another page", field="after")
    found: list[dict[str, Any]] = []
    workers = [name for name in service.calls.workers() if name >= first]
    for worker in workers:
        after = int(begin[:19]) if worker == first and begin else 0
        question = {"ask": "connections", "after": after, "limit": limit - len(found), "channel": channel}
        answer = await service.calls.ask(worker, {**question, "subject": subject})
        if answer is None:
            continue  # it was killed
        found += answer["connections"]
        if answer["next"] is not None:
            return _page(found, f"{worker}:{answer['next']}")
        if len(found) >= limit and worker != workers[-1]:
            return _page(found, f"{workers[workers.index(worker) + 1]}:0")
    return _page(found, None)


def _page(found: list[dict[str, Any]], after: str | None) -> JsonAnswer:
    return JsonAnswer({"connections": found, "next": after})


async def own_connections(service: Service, question: dict[str, Any]) -> dict[str, Any]:
    """A page of this process's streams, in the order in which they began.

    Args:
        service: this process's.
        question: `after`, when the last stream of the page before began; `limit`; `channel` and `subject`, or None.

    Returns:
        `connections`, and `next`, which is `after` of the next page; None: there is none.
    """
    streams: list[Any] = list((await service.hub.runtime()).members)
    wanted, subject = question["channel"], question["subject"]
    known: dict[Channels, bool] = {}
    found: list[dict[str, Any]] = []
    begin = bisect_right(streams, question["after"], key=_began)
    for index in range(begin, len(streams)):
        stream: Subscription[Any] = streams[index]
        fits = stream.is_stream and (subject is None or stream.subject == subject)
        if fits and wanted is not None:
            fits = known.get(stream.channels, False)
            if stream.channels not in known:
                fits = known[stream.channels] = concerns(stream.channels, wanted)
        if fits and not all(map(is_internal, _names(stream.channels))):
            found.append(_shown(service, stream))
        looked_at = index + 1 - begin
        if len(found) >= question["limit"] or looked_at >= _LOOKED_AT:
            return {"connections": found, "next": stream.began if index + 1 < len(streams) else None}
        if looked_at % _SLICE == 0:
            await asyncio.sleep(0)
    return {"connections": found, "next": None}


def concerns(channels: Channels, wanted: str) -> bool:
    """Whether these get the events of `wanted`, or if it is a pattern, of channels that it matches."""
    names = _names(channels)
    return any(covers(wanted, name) or covers(name, wanted) for name in names)


def _names(channels: Channels) -> Sequence[str]:
    return (*channels.names, *channels.patterns)


def _began(stream: Subscription[Any]) -> int:
    return stream.began


def _shown(service: Service, stream: Subscription[Any]) -> dict[str, Any]:
    names = sorted(_names(stream.channels))
    shown: dict[str, Any] = {
        "id": f"{service.workers.worker}:{stream.began}",
        "channels": names[:_CHANNELS],
        "subject": stream.subject,
        "address": stream.client,
        "since": stream.began / 1e6,
        "state": stream.state,
        "behind": stream.behind,
    }
    if len(names) > _CHANNELS:
        shown["more_channels"] = len(names) - _CHANNELS
    return shown


_NAMES_AT_ONCE: Final = 2000  # names: about a millisecond


async def channels(request: Request) -> JsonAnswer:
    """The channels and patterns after `?after=`, of `?channel=`, with the text `?contains=` in their name."""
    service = service_of(request)
    await service.allow(request, "observe")
    query = Query(request.scope["query_string"])
    query.only("channel", "contains", "limit", "after", also=service.parameters)
    channel = query.one("channel")
    if channel is not None:
        check_pattern(channel)
    limit = query.count("limit", MOST) or LIMIT
    question = {"ask": "channels", "after": query.one("after") or "", "limit": limit + 1, "channel": channel}
    question["text"] = (query.one("contains") or "").lower()
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
    return JsonAnswer({"channels": found, "next": names[-1] if more else None})


async def own_channels(service: Service, question: dict[str, Any]) -> dict[str, int]:
    """The first names after `after` in this process, at most `limit`, with their numbers of streams."""
    index = (await service.hub.runtime()).index
    after, wanted, text = question["after"], question["channel"], question["text"]
    patterns = service.patterns()
    names = [*service.activity.names(), *index.names(), *patterns]
    found: set[str] = set()
    for begin in range(0, len(names), _NAMES_AT_ONCE):
        fitting = [
            name
            for name in names[begin : begin + _NAMES_AT_ONCE]
            if name > after
            and text in name.lower()
            and not is_internal(name)
            and (wanted is None or covers(wanted, name))
        ]
        found = set(heapq.nsmallest(question["limit"], found.union(fitting)))
        await asyncio.sleep(0)
    return {name: patterns.get(name, count) for name, count in service.readers(found).items()}
