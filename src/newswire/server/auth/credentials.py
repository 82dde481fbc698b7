"""Which credential a request brings: `Authorization`, a cookie, or a ticket in the query.

A browser sends a cookie by itself, also for a page of somebody else's. So what a cookie does beyond reading has to come
from a page that may do it: one of this server's own, or of an origin that is configured by name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from starlette.requests import Request

from newswire.delivery.problem import Problem
from newswire.server.auth.tokens import invalid
from newswire.serving.origins import is_own

TICKET: Final = "ticket"
"""The query parameter of a ticket."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request brings.

    Attributes:
        where: how it came.
        text: the token, the key or the ticket.
    """

    where: Literal["header", "cookie", "ticket"]
    text: str


def credential_of(request: Request, cookie: str) -> Credential | None:
    """The credential of a request; None: there is none. A header counts before a ticket, and that before a cookie.

    Args:
        request: the request.
        cookie: the name of the cookie that has a token.

    Raises:
        Denied: there is one that can't be read.
    """
    given = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if given:
        scheme, _, text = given[0].decode("latin-1").strip().partition(" ")
        if len(given) > 1:
            raise invalid("malformed", "there are several Authorization headers: send one")
        if scheme.lower() != "bearer" or not (text := text.strip()):
            raise invalid("malformed", "Authorization is not of the form: Bearer TOKEN")
        return Credential("header", text)
    if b"ticket" in request.scope["query_string"]:
        tickets = request.query_params.getlist(TICKET)
        if len(tickets) > 1:
            raise invalid("malformed", "there are several tickets: send one")
        if tickets:
            return Credential("ticket", tickets[0])
    found = request.cookies.get(cookie)
    return Credential("cookie", found) if found else None


def check_page(request: Request, origins: Collection[str]) -> None:
    """Check that a request with a cookie was made by a page that may do more than read.

    Args:
        request: the request.
        origins: of pages that may, in lower case. `*` names no page, so it allows none.

    Raises:
        Problem: no, or nothing shows which page made it.
    """
    headers = request.headers
    origin = headers.get("origin")
    if origin is not None and origin.lower() in origins:
        return
    if headers.get("sec-fetch-site", "same-origin" if origin else "none") == "same-origin":
        if origin is None or is_own(headers, origin):
            return
    detail = (
        "a cookie lets only pages of this server, or of an origin in --cors-origin, do this, and this request shows "
        "no such page: programs send their token as Authorization: Bearer TOKEN"
    )
    raise Problem(403, "foreign_origin", detail)
