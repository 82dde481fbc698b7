"""`/tickets`, `/session`, `/revoke` and `/connections`: what clients and admins do about credentials.

They exist only where a server asks for credentials. Bodies are small JSON objects, read as strictly as everything else:
a member that nothing reads would be a slip that revokes the wrong thing.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from newswire.delivery.problem import Problem, not_found
from newswire.delivery.query import Query
from newswire.delivery.ticket_request import MOST_BYTES, TicketRequest, bad_member, members, text_of
from newswire.server.auth.access import Access
from newswire.server.auth.authority import Auth, denied
from newswire.server.auth.tickets import NEEDED
from newswire.server.service import service_of
from newswire.serving.answers import NO_STORE, JsonAnswer


async def tickets(request: Request) -> JsonAnswer:
    """Make a stream ticket of the request's own credential."""
    auth = _auth_of(request)
    service = service_of(request)
    access = await auth.identify(request)
    if access.kind == "anonymous":  # what anyone may read needs no ticket, and a used one is stored in the log
        raise denied(access, "make a ticket")
    publisher = service.publisher(request.scope, access)
    asked = TicketRequest.of(await _body(request), access.subscribe, service.settings.max_channels)
    try:
        made = await auth.ticket(access, asked.channels, subject=asked.subject, first_use=asked.first_use)
    except ModuleNotFoundError:
        raise not_found(f"this server makes no tickets: {NEEDED}") from None
    if service.rates is not None and publisher is not None:
        service.rates.took(publisher, 1)
    return JsonAnswer(made, 201)


async def sign_in(request: Request) -> Response:
    """Put the token of the request's header into the cookie of this server, for its pages."""
    auth = _auth_of(request)
    return Response(status_code=204, headers={"set-cookie": await auth.session(request), **NO_STORE})


async def sign_out(request: Request) -> Response:
    """Take the cookie away. The token stays good: `POST /revoke` ends it."""
    return Response(status_code=204, headers={"set-cookie": _auth_of(request).no_session(), **NO_STORE})


async def revoke(request: Request) -> JsonAnswer:
    """Refuse credentials from now on, everywhere, and end their streams."""
    auth = _auth_of(request)
    access = await auth.identify(request)
    found = members(await _body(request), "invalid_revocation", "subject", "token", "until")
    until = found.get("until")
    if until is not None and (isinstance(until, bool) or not isinstance(until, (int, float))):
        raise bad_member("invalid_revocation", "until", "until is a time in seconds since the Unix epoch")
    if until is not None and until <= time.time():  # as a number of seconds from now is: it would be forgotten at once
        raise bad_member(
            "invalid_revocation", "until", "until has passed: it is a time in seconds since the Unix epoch"
        )
    subject, token = (text_of(found, name, "invalid_revocation") for name in ("subject", "token"))
    return await _revoke(auth, access, subject, token, until=until)


async def end_connections(request: Request) -> JsonAnswer:
    """The same, asked for as the end of connections; with `again=true` the clients may come back."""
    auth = _auth_of(request)
    access = await auth.identify(request)
    query = Query(request.scope["query_string"])
    query.only("subject", "token", "again")
    again = query.choice("again", "true", "false") == "true"
    return await _revoke(auth, access, query.one("subject"), query.one("token"), again=again)


async def _revoke(auth: Auth, access: Access, subject: str | None, token: str | None, **more: Any) -> JsonAnswer:
    if bool(subject) == bool(token):
        detail = "name a subject, or a token by its jti, and not both"
        raise Problem(400, "invalid_revocation", detail, field="subject")
    own = (token == access.token if token else subject == access.subject) and not more.get("again")
    if access.kind == "anonymous" or not (access.admin or own):
        raise denied(access, "revoke credentials of others" if access.kind != "anonymous" else "revoke credentials")
    position = await auth.revoke(subject=subject or None, token=token or None, **more)
    named = {"subject": subject} if subject else {"token": token}
    return JsonAnswer({"id": position, **named})


def _auth_of(request: Request) -> Auth:
    auth = service_of(request).auth
    if auth is None:
        raise not_found("this server needs no credentials: start it with --jwt-secret, or see docs/auth.md")
    return auth


async def _body(request: Request) -> bytes:
    """The body of a request, if it is a small one."""
    return await service_of(request).bodies.read(request.receive, request.headers.get("content-length"), MOST_BYTES)
