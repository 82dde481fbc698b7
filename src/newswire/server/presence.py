"""`/presence/CHANNEL`, and what a stream's query says about who it is.

The member of a stream is the user of its credential, and no other: a client can't come as somebody else. Where the
server asks for no credentials, `member=` says who it is. A client without either is a visitor, who only counts.

That is stored, so a page that may not publish may not make its user come either, although that is a GET.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from newswire.delivery.problem import Problem, not_found
from newswire.delivery.query import Query, channel_of
from newswire.delivery.response import EventSourceResponse
from newswire.errors import InvalidChannel
from newswire.hub.presence.member import Member, check_id
from newswire.hub.presence.presences import Presence
from newswire.server.auth import Access, allow_all
from newswire.server.service import Service, service_of
from newswire.serving.answers import NO_STORE, JsonAnswer
from newswire.serving.origins import foreign, is_foreign
from newswire.wire.event import Event
from newswire.wire.payload import read_json, write_json
from newswire.wire.reserved import COUNT

PARAMETERS: Final = ("presence", "member", "state")


async def presence(request: Request) -> Response | ASGIApp:
    """Answer with the members of a channel, or take a member's new state."""
    service = service_of(request)
    query = Query(request.scope["query_string"])
    found = _presence_of(service, channel_of(request.scope))
    if request.method == "POST":
        return await _update(request, service, found, query)
    query.only("count", also=service.parameters)
    if query.choice("count", "", "1") is not None:
        if "text/event-stream" in request.headers.get("accept", ""):
            return await _stream_of_counts(request, service, found)
        return JsonAnswer({"channel": found.channel, "count": await found.count()})
    await service.allow(request, "subscribe", found.channel)
    members = [{"member": member, "state": state} for member, state in (await found.members()).items()]
    return JsonAnswer({"channel": found.channel, "count": await found.count(), "members": members})


async def _stream_of_counts(request: Request, service: Service, found: Presence) -> ASGIApp:
    """How many are there, now and whenever that changes. It has no ids: a reconnect gets the number as it is then."""
    address = service.streams_open.address_of(request.scope.get("client"))
    if request.method != "HEAD":
        service.check_room()
        service.streams_open.check(None, address)
        await found.count()  # what fails here is still a status code

    async def events() -> AsyncIterator[Event]:
        service.counting += 1
        service.streams_open.enter(address)
        try:
            async for count in found.counts():
                yield Event(write_json({"channel": found.channel, "count": count}), COUNT)
        finally:
            service.counting -= 1
            service.streams_open.leave(address)

    return EventSourceResponse(events(), options=service.options([found.channel]))


async def _update(request: Request, service: Service, found: Presence, query: Query) -> Response:
    query.only("member", also=service.parameters)
    access = await service.allow(request, "subscribe", found.channel)
    if service.auth is not None:
        access = await service.auth.identify(request)  # a page of another site can't use a cookie
    member = _member_id(service, access, query)
    if member is None:
        raise Problem(403, "no_member", "only a member has a state: a visitor has no name", field="member")
    service.presence_rates.check(f"member {found.channel} {member}")
    body = await service.bodies.read(request.receive, request.headers.get("content-length"))
    try:
        state = read_json(body.decode("utf-8"))
    except ValueError:
        raise Problem(400, "invalid_state", "the body is the member's state as JSON in UTF-8", field="body") from None
    try:
        await found.update(member, state)
    except LookupError:
        detail = "this member is not on the channel: open a stream with presence=join first"
        raise Problem(404, "not_here", detail, field="member") from None
    service.presence_rates.took(f"member {found.channel} {member}", 1)
    return Response(status_code=204, headers=NO_STORE)


def _presence_of(service: Service, channel: str) -> Presence:
    service.check("subscribe", channel)
    if service.hub.presences is None:
        raise not_found("this server has no channels with members: start it with --presence 'room.*'")
    try:
        return service.hub.presence(channel)
    except InvalidChannel:
        raise
    except ValueError:
        raise not_found(f"channel {channel[:100]!r} has no members here") from None


def member_of(service: Service, request: Request, access: Access | None, query: Query) -> Member | bool:
    """What a stream's query says: a member, True for a client that only watches, False for none of it.

    Raises:
        Problem: it says something that can't be.
    """
    asked = query.choice("presence", "join", "watch")
    state = query.one("state")
    if asked != "join":
        for name, value in (("member", query.one("member")), ("state", state)):
            if value is not None:
                raise Problem(400, "invalid_query", f"{name} is for presence=join", field=name)
        return asked is not None
    if is_foreign(request.headers, service.settings.cors_origins):
        raise foreign(request.headers.get("origin"), service.settings.variable("cors_origins"))
    member = _member_id(service, access, query)
    try:
        found = None if state is None else read_json(state)
    except ValueError:
        raise Problem(400, "invalid_query", 'state is JSON, such as {"name":"Ada"}', field="state") from None
    try:
        return Member(member, found)
    except ValueError as error:
        raise Problem(400, "invalid_query", str(error), field="state") from None


def _member_id(service: Service, access: Access | None, query: Query) -> str | None:
    """Whose a request is: the user of its credential, or whom it names where the server asks for no credentials."""
    named = query.one("member")
    if service.authorize is allow_all:
        member = named
    else:
        member = None if access is None else access.subject
        if named is not None and named != member:
            detail = "the member is the user of the credential (`sub`): leave out member"
            raise Problem(403, "wrong_member", detail, field="member")
    try:
        return None if member is None else check_id(member)
    except ValueError as error:
        raise Problem(400, "invalid_query", str(error), field="member") from None
