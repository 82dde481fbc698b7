"""`POST /channels/{channel}`: one event, or with `application/x-ndjson` a batch of them.

A batch has one JSON object a line, `{"data": …}` and perhaps `"event"`; an error names the line. Parsing yields to the
event loop now and then, so that a large batch does not hold up the streams. With an `Idempotency-Key`, a request that
is sent again stores nothing, and gets the same answer; see `Hub.publish`.

The body is bounded while it is read, in size and in time, and nothing is stored before all of it was checked. `publish`
reads the ASGI scope itself, since most events are a hundred bytes, and a request object around them costs more than to
store them. `FastChannel` leads to it past Starlette's routing for the same reason.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newswire.counted import counted
from newswire.delivery.asgi import Answer, AnswersWhole
from newswire.delivery.problem import Problem, internal
from newswire.delivery.publish_headers import read_headers
from newswire.delivery.query import Query, channel_of
from newswire.errors import ContractBroken, InvalidEvent
from newswire.server.auth import allow_all
from newswire.server.metrics import CountRequests
from newswire.server.service import Service
from newswire.serving.answers import problem_from
from newswire.serving.hosts import Hosts
from newswire.wire.event import Event
from newswire.wire.payload import read_json, to_event, write_json

if TYPE_CHECKING:
    from newswire.contract.contract import Contract

PATH: Final = "/channels/"
HEADERS: Final = (("content-type", "application/json"), ("cache-control", "no-store"))
_HEADERS: Final = [(name.encode(), value.encode()) for name, value in HEADERS]
_HEAD: Final = b"content-length: %d\r\n" + b"".join(b"%s: %s\r\n" % pair for pair in _HEADERS) + b"\r\n"
_SLICE: Final = 250  # lines: about a millisecond
_MEMBERS: Final = frozenset({"data", "event"})


async def publish(service: Service, scope: Scope, receive: Receive, body: bytes | None = None) -> bytes:
    """Store, in the request's trace if the hub has a tracer, then answer; see `_publish`."""
    tracer = service.hub.tracer
    if tracer is None:
        return await _publish(service, scope, receive, body)
    with tracer.request(scope):
        return await _publish(service, scope, receive, body)


async def _publish(service: Service, scope: Scope, receive: Receive, body: bytes | None) -> bytes:
    """Store, then return the answer: JSON with the id of the event, or the ids of the batch, and a line feed.

    Args:
        body: the request's, if it is there already.

    Raises:
        Problem, NewswireError: nothing was stored, or the log failed.
        ClientGone: the client left in the middle of its body.
    """
    began = time.perf_counter()
    channel = channel_of(scope)
    event: str | None = None
    if raw := scope["query_string"]:
        query = Query(raw)
        query.only("event", also=service.parameters)
        event = query.one("event")
        if event == "":
            detail = "the event's type can't be empty: leave ?event= out for 'message'"
            raise Problem(400, "invalid_event", detail, field="event")
    service.check("publish", channel)
    access = None
    if service.authorize is not allow_all:
        access = await service.authorize(Request(scope, receive), "publish", (channel,))
    publisher = service.publisher(scope, access)
    is_batch, announced, key, wait = read_headers(scope["headers"])
    settings = service.settings
    if body is None:
        body = await service.bodies.read(receive, announced)
    if is_batch:
        events = await _parse_batch(body, event, settings.max_batch, service.hub.contract_of(channel))
        ids = await service.hub.publish_many(((channel, one) for one in events), idempotency_key=key, wait=wait)
        stored = ids[0].stored
        listed = '","'.join(ids)
        answer = f'{{"id":"{ids[-1]}","ids":["{listed}"]}}\n'
        count = len(ids)
    else:
        id_ = await service.hub.publish(channel, body, event=event or "message", idempotency_key=key, wait=wait)
        stored = id_.stored
        answer = f'{{"id":"{id_}"}}\n'
        count = 1
    if service.rates is not None and publisher is not None:
        service.rates.took(publisher, count)
    service.published(count if stored else 0, time.perf_counter() - began)
    return answer.encode()


class FastChannel(AnswersWhole):
    """Leads `/channels/{channel}` past Starlette: the same checks and the same answers, at half the cost.

    Requests that a middleware may treat in its own way (those of web pages, and those to a host that it does not know)
    go to Starlette.

    Args:
        app: Starlette's own way, which all other requests take; it counts them.
        hosts: which hosts are this server's.
        service: of the application.
        route: what requests are counted as.
        stream: makes the response to a GET request.
    """

    def __init__(
        self,
        app: CountRequests,
        hosts: Hosts,
        service: Service,
        route: BaseRoute,
        stream: Callable[[Request], Awaitable[ASGIApp]],
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._service = service
        self._route = route
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._fits(scope):
            await self._app(scope, receive, send)
            return
        self._lead(scope)
        if scope["method"] == "GET":
            await self._subscribe(scope, receive, send)
            return
        try:
            answer = await publish(self._service, scope, receive)
        except Exception as error:  # the outermost frame of a request
            await self._refuse(error, scope, receive, send)
            return
        self._app.count(scope, 200)
        length = (b"content-length", str(len(answer)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length, *_HEADERS]})
        await send({"type": "http.response.body", "body": answer})

    def whole(self, scope: Scope, body: bytes) -> Coroutine[Any, Any, Answer] | None:
        """The same, where the server has all of a request; see `newswire.delivery.fast.limits`."""
        if len(body) > self._service.settings.max_body or not self._fits(scope):
            return None
        self._lead(scope)
        return self._publish_whole(scope, body)

    async def _publish_whole(self, scope: Scope, body: bytes) -> Answer:
        try:
            answer = await publish(self._service, scope, partial(_at_hand, body), body)
        except Exception as error:  # the outermost frame of a request
            return partial(self._refuse, error)
        self._app.count(scope, 200)
        return _HEAD % len(answer) + answer

    def _lead(self, scope: Scope) -> None:
        scope["path_params"] = {"channel": scope["path"][len(PATH) :]}
        scope["route"] = self._route

    async def _subscribe(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._stream(Request(scope, receive, send))
        except Exception as error:  # the outermost frame of a request
            await self._refuse(error, scope, receive, send)
            return
        await response(scope, receive, self._app.counted(scope, send))

    def _fits(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] not in ("GET", "POST") or scope.get("root_path"):
            return False
        path: str = scope["path"]
        if not path.startswith(PATH) or len(path) == len(PATH) or "/" in path[len(PATH) :]:
            return False
        for name, _ in scope["headers"]:
            if name == b"origin":
                return False
        return self._hosts.refusal(scope) is None

    async def _refuse(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with an error as Starlette's own frames do, which this one stands for."""
        counted = self._app.counted(scope, send)
        problem = problem_from(error, scope)
        if problem is None:  # a fault of ours, for the server's log
            await internal()(scope, receive, counted)
            raise error
        await problem(scope, receive, counted)


async def _at_hand(body: bytes) -> Message:
    return {"type": "http.request", "body": body, "more_body": False}


async def _parse_batch(body: bytes, event: str | None, limit: int, contract: Contract[Any] | None) -> list[Event]:
    """Read a batch. Empty lines are skipped.

    Args:
        body: lines of UTF-8, ended by LF or CRLF.
        event: the type of events that name none.
        limit: how many events there may be.
        contract: the channel's.

    Raises:
        Problem: a line is no event, or there are none, or too many.
    """
    events: list[Event] = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if number % _SLICE == 0:
            await asyncio.sleep(0)
        if not line or line.isspace():
            continue
        if len(events) >= limit:
            detail = f"a batch has at most {counted(limit, 'event')} here: send several. Nothing was stored"
            raise Problem(413, "too_large", detail, limit=limit)
        events.append(_event_of_line(line, number, event, contract))
    if not events:
        detail = 'the batch is empty: send one JSON object a line, such as {"data": "It works"}'
        raise Problem(400, "invalid_batch", detail)
    return events


def _event_of_line(line: bytes, number: int, default: str | None, contract: Contract[Any] | None) -> Event:
    try:
        item = read_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _bad(number, "data", f"is not UTF-8 (byte {error.start})") from None
    except ValueError as error:
        raise _bad(number, "data", f"is not JSON: {_why(error)}") from None
    if not isinstance(item, dict):
        raise _bad(number, "data", 'must be an object such as {"data": "It works", "event": "note"}')
    unknown = item.keys() - _MEMBERS
    if unknown:
        raise _bad(number, min(unknown)[:40], f"has the member {min(unknown)[:40]!r}; there are `data` and `event`")
    if "data" not in item:
        raise _bad(number, "data", "has no `data`")
    name = item.get("event", default)
    try:
        data = item["data"]
        if contract is None:
            return to_event(data, name)
        return contract.encode(write_json(data).encode(), name or "message")
    except ContractBroken as error:
        raise _bad(number, error.field, f"breaks the contract: {error}", status=422, code="contract_broken") from None
    except InvalidEvent as error:
        raise _bad(number, error.field, f"can't be published: {error}") from None


def _why(error: ValueError) -> str:
    """What is wrong, without the parser's own `line 1`: each line is a document of its own."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]} at character {error.pos + 1}"
    return str(error)[:120]


def _bad(number: int, field: str, what: str, *, status: int = 400, code: str = "invalid_batch") -> Problem:
    return Problem(status, code, f"line {number} {what}. Nothing was stored", line=number, field=field)
