"""Whose requests may read `/metrics`: those with the token for it, and those that the application lets in besides.

A server that asks no client for credentials answers everyone, unless it has such a token (`--metrics-token`).
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Final

from starlette.requests import Request

from newswire.delivery.problem import Problem

_CHALLENGE: Final = 'Bearer realm="newswire"'


def has_token(request: Request, token: str | None) -> bool:
    """Whether a request brings this token: `Authorization: Bearer TOKEN`. False if there is no such token."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token is None or scheme.lower() != "bearer":
        return False
    return compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())


def token_needed(request: Request) -> Problem:
    """The answer to a request without it."""
    if "authorization" in request.headers:
        detail = "this is not the metrics token: send Authorization: Bearer and what --metrics-token says"
    else:
        detail = "the metrics need a credential: send Authorization: Bearer and the server's --metrics-token"
    return Problem(401, "unauthenticated", detail, headers={"www-authenticate": _CHALLENGE})
