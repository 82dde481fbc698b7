"""Tokens and permissions, and the seam for applications that know their users. See docs/auth.md.

`newswire serve` has it by its settings (`--jwt-secret` …). In an application with a hub of its own, make an `Auth` and
call it in the routes. Verifying tokens needs the extra `auth` (PyJWT).
"""

from newswire.server.auth.access import Access, Action, Authorizer, Denied, allow_all
from newswire.server.auth.api_keys import ApiKeys
from newswire.server.auth.authority import Auth
from newswire.server.auth.jwks import JwksUrl
from newswire.server.auth.keys import Key, read_keys, secret_key
from newswire.server.auth.tokens import Tokens, new_token

__all__ = [
    "Access",
    "Action",
    "ApiKeys",
    "Auth",
    "Authorizer",
    "Denied",
    "JwksUrl",
    "Key",
    "Tokens",
    "allow_all",
    "new_token",
    "read_keys",
    "secret_key",
]
