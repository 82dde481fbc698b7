"""`/tickets`, `/session`, `/revoke` and `/connections`: what clients and admins do about credentials.

They exist only where a server asks for credentials. Bodies are small JSON objects, read as strictly as everything else:
a member that nothing reads would be a slip that revokes the wrong thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from newswire.counted import counted
from newswire.delivery.problem import Problem, not_found
from newswire.delivery.query import Query
from newswire.log.channels import check_pattern
from newswire.server.auth.access import Access, is_writable
from newswire.server.auth.authority import Auth, denied
from newswire.server.auth.tickets import NEEDED
from newswire.server.service import service_of
from newswire.serving.answers import NO_STORE, JsonAnswer
from newswire.wire.payload import read_json

_MOST: Final = 64 * 2**10
_FIRST_USE: Final = (1.0, 600.0)
_NAME: Final = 1000  # characters of a subject or a credential's name


async def tickets(request: Request) -> JsonAnswer:
    """Make a stream ticket of the request's own credential."""
    auth = _auth_of(request)
    service = service_of(request)
    access = await auth.identify(request)
    if access.kind == "anonymous":  # what anyone may read needs no ticket, and a used one is stored in the log
        raise denied(access, "make a ticket")
    publisher = service.publisher(request.scope, access)
    members = await _members(request, "invalid_ticket", "channels", "ttl", "subject")
    channels = members.get("channels", list(access.subscribe))
    if not isinstance(channels, list) or not channels or not all(isinstance(one, str) for one in channels):
        raise _invalid("invalid_ticket", "channels", 'channels is a list of names and patterns, such as ["room.1"]')
    limit = service.settings.max_channels
    if len(channels) > limit:
        raise Problem(
            400, "too_many_channels", f"a ticket has at most {counted(limit, 'channel')}", field="channels", limit=limit
        )
    for channel in channels:
        check_pattern(channel)
    first_use = members.get("ttl", 30)
    low, high = _FIRST_USE
    if isinstance(first_use, bool) or not isinstance(first_use, (int, float)) or not low <= first_use <= high:
        raise _invalid("invalid_ticket", "ttl", f"ttl is a number of seconds from {low:g} to {high:g}")
    subject = _text(members, "subject", "invalid_ticket")
    try:
        made = await auth.ticket(access, channels, subject=subject, first_use=float(first_use))
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
    members = await _members(request, "invalid_revocation", "subject", "token", "until")
    until = members.get("until")
    if until is not None and (isinstance(until, bool) or not isinstance(until, (int, float))):
        raise _invalid("invalid_revocation", "until", "until is a time in seconds since the Unix epoch")
    subject, token = _text(members, "subject", "invalid_revocation"), _text(members, "token", "invalid_revocation")
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


async def _members(request: Request, code: str, *names: str) -> Mapping[str, Any]:
    """The members of the JSON object in a request's body; none for an empty body."""
    body = await service_of(request).bodies.read(request.receive, request.headers.get("content-length"), _MOST)
    if not body.strip():
        return {}
    try:
        value = read_json(body.decode("utf-8"))
    except ValueError:
        raise _invalid(code, "body", "the body is no JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise _invalid(code, "body", "the body is a JSON object")
    if unknown := value.keys() - set(names):
        detail = f"there is no member {min(unknown)[:40]!r}; what there is: {', '.join(names)}"
        raise _invalid(code, min(unknown)[:40], detail)
    return value


def _text(members: Mapping[str, Any], name: str, code: str) -> str | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= _NAME or not is_writable(value):
        raise _invalid(code, name, f"{name} is a text of 1 to {_NAME} characters, without lone surrogates")
    return value


def _invalid(code: str, field: str, detail: str) -> Problem:
    return Problem(400, code, detail, field=field)
