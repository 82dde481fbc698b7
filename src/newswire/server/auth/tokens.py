"""JSON Web Tokens: which are good, and what they grant.

A token has the claims `sub` (the user), `exp`, and `subscribe` and `publish`: lists of channel patterns. `jti` names
it, so that it can be revoked alone, `iat` says when it was made, `admin: true` lets it observe and revoke. PyJWT checks
the signature first, and the times, the audience and the issuer only then. So a refusal that gives details goes to the
holder of a token that a known key has signed.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final, NoReturn

from newswire.delivery.problem import Problem
from newswire.delivery.ticket_request import MOST_NAME, check_subject
from newswire.extras import Extra
from newswire.server.auth.access import Access, Denied
from newswire.server.auth.jwks import JwksUrl
from newswire.server.auth.keys import ALGORITHMS, HMAC, WEAK, Key
from newswire.server.auth.patterns import read_grants
from newswire.validate import check_flag, check_kind, check_list, check_seconds
from newswire.wire.payload import is_writable

logger: logging.Logger = logging.getLogger("newswire.server")

REALM: Final = 'Bearer realm="newswire"'
_NOT_QUOTED: Final = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")  # in an error_description (RFC 6750, section 3)
MOST_BYTES: Final = 16 * 2**10
_KNOWN: Final = 4096  # tokens whose check is remembered: verifying costs 20 to 200 µs
# As RFC 7515 writes it, without padding: a text with more in it would be the same token under another name.
_FORM: Final = re.compile(r"[\w-]+\.[\w-]*\.[\w-]*", re.ASCII)
_TIME: Final = re.compile(r"\((exp|nbf|iat)\)")  # in PyJWT's words, the claim that it means
FOREVER: Final = 253402300800.0  # the year 10000: past it a time is a slip


def invalid(reason: str, detail: str) -> Denied:
    """A 401 for a credential that is there and not good (RFC 6750, section 3)."""
    described = _NOT_QUOTED.sub("?", detail)[:200]
    authenticate = f'{REALM}, error="invalid_token", error_description="{described}"'
    return Denied(detail, authenticate=authenticate, reason=reason)


class Tokens:
    """Verifies tokens.

    Args:
        keys: static keys.
        url: keys that an identity provider publishes.
        audiences: a token has to name one of them. Without any, a token that names one is refused: it is for another.
        issuer: the only one, if given.
        algorithms: the only ones, if given; else all that the keys are for.
        leeway: seconds that the clocks of issuers may differ by. A subject that is revoked loses what was made up to so
            long after, as far as the issuer's clock says.

    Raises:
        ValueError: there is no such algorithm.
        TypeError: an argument is of another kind.
        ImportError: PyJWT is not installed.
    """

    def __init__(
        self,
        keys: Sequence[Key] = (),
        *,
        url: JwksUrl | None = None,
        audiences: Collection[str] = (),
        issuer: str | None = None,
        algorithms: Collection[str] = (),
        leeway: float = 0.0,
    ) -> None:
        for name, values in (("keys", keys), ("audiences", audiences), ("algorithms", algorithms)):
            check_list(name, values)
        for key in keys:
            check_kind("each of `keys`", key, Key)
        if url is not None:
            check_kind("url", url, JwksUrl)
        if issuer is not None:
            check_kind("issuer", issuer, str)
        check_seconds("leeway", leeway)
        if unknown := set(algorithms) - ALGORITHMS:
            raise ValueError(f"{min(unknown)!r:.40} is no algorithm; there are {', '.join(sorted(ALGORITHMS))}")
        with Extra("verifying tokens", "auth"):
            import jwt as _  # noqa: F401  # here, and not at the first request
        self._keys = tuple(keys)
        self._url = url
        self._audiences = list(audiences)
        self._issuer = issuer
        self._algorithms = frozenset(algorithms) or ALGORITHMS
        self._leeway = leeway
        self._known: dict[str, Access] = {}
        self._of_fetch = 0  # the fetch of the URL's keys that `_known` is of

    async def verify(self, token: str) -> Access:
        """What a token grants.

        Raises:
            Denied: it is not good.
            Problem: its keys can't be read now.
        """
        missing = None
        if self._url is not None:
            missing = await self._url.refresh()
            if self._url.fetched != self._of_fetch:
                self._forget()
        known = self._known.get(token)
        if known is None:
            known = _access(await self._verify(token, missing), token)
            if known.expires is not None:
                known = replace(known, expires=known.expires + self._leeway)
            if known.issued is not None:  # a clock that is ahead must not save a token from a revocation
                known = replace(known, issued=known.issued - self._leeway)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[token] = known
        if known.expires is not None and known.expires <= time.time():
            raise _expired()
        return known

    def keep_fetched(self, before: Tokens) -> None:
        """Go on with the keys that `before` has fetched, if their URL is the same."""
        if self._url is not None and before._url is not None and self._url.url == before._url.url:
            self._url = before._url

    def _forget(self) -> None:
        self._known.clear()
        self._of_fetch = 0 if self._url is None else self._url.fetched

    async def _verify(self, token: str, missing: Problem | None) -> dict[str, Any]:
        import jwt

        if len(token) > MOST_BYTES:
            raise invalid("malformed", f"the token has more than {MOST_BYTES:,} bytes")
        if not _FORM.fullmatch(token):
            raise invalid("malformed", "the token is no JSON Web Token")
        try:
            head = jwt.get_unverified_header(token)
        except (jwt.exceptions.PyJWTError, ValueError, RecursionError):
            raise invalid("malformed", "the token is no JSON Web Token") from None
        algorithm, id = head.get("alg"), head.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise invalid("wrong_algorithm", "the token is signed with an algorithm that is not accepted here")

        def fitting(keys: Sequence[Key]) -> list[Key]:
            return [key for key in keys if algorithm in key.algorithms and (id is None or key.id in (None, id))]

        found = fitting(self._all_keys())
        claims = self._first(token, found, algorithm)
        if claims is None and self._url is not None and missing is None and algorithm not in HMAC:
            if id is None or id not in [key.id for key in found]:  # perhaps the provider has a new key
                before = self._url.keys
                await self._url.look_for(lambda keys: keys is not before)
                if self._url.fetched != self._of_fetch:
                    self._forget()
                found = fitting(self._all_keys())
                claims = self._first(token, found, algorithm)
        if claims is not None:
            return claims
        if missing is not None:
            raise missing  # it may be good: the keys that would show it are not there
        if not found:
            raise self._no_key(algorithm, id)
        raise invalid("bad_signature", "the token is not signed with a key that this server knows")

    def _first(self, token: str, keys: Sequence[Key], algorithm: str) -> dict[str, Any] | None:
        """The claims of a token that one of these keys has signed; None: none of them has."""
        from jwt.exceptions import InvalidSignatureError

        for key in keys:
            try:
                return self._decode(token, key, algorithm)
            except InvalidSignatureError:
                continue
        return None

    def _all_keys(self) -> list[Key]:
        return [*self._keys, *(() if self._url is None else self._url.keys)]

    def _no_key(self, algorithm: str, id: str | None) -> Denied:
        """Why none of the keys can verify a token of this algorithm, that names this key."""
        ids = {key.id for key in self._all_keys() if key.id is not None}
        if id in ids:
            return invalid("wrong_algorithm", "the token is signed with another algorithm than its key (kid) is for")
        if id is not None and ids:
            return invalid("unknown_key", "the token names a key (kid) that this server does not know")
        return invalid("wrong_algorithm", "the token is signed with an algorithm that is not accepted here")

    def _decode(self, token: str, key: Key, algorithm: str) -> dict[str, Any]:
        import jwt
        from jwt import exceptions as wrong

        try:
            claims = jwt.decode(
                token,
                key.material,
                algorithms=[algorithm],
                audience=self._audiences or None,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": ["aud"] if self._audiences else []},
            )
        except wrong.InvalidSignatureError:
            raise
        except (wrong.InvalidTokenError, ValueError, OverflowError, TypeError, RecursionError) as error:
            _explain(error)
        except wrong.PyJWTError:
            raise wrong.InvalidSignatureError from None  # this key can't be used for it: perhaps another can
        if not isinstance(claims, dict):
            raise invalid("malformed", "the token's claims are no object")
        return claims


def _expired() -> Denied:
    return invalid("expired", "the token has expired")


def _explain(error: Exception) -> NoReturn:
    """Say what is wrong with a token whose signature is good, or that can't be read."""
    from jwt import exceptions as wrong

    match error:
        case wrong.ExpiredSignatureError():
            raise _expired() from None
        case wrong.ImmatureSignatureError():
            raise invalid("not_yet_valid", "the token is not valid yet: its nbf or iat is in the future") from None
        case wrong.InvalidAudienceError():
            raise invalid("wrong_audience", "the token is for another audience") from None
        case wrong.MissingRequiredClaimError(claim="aud"):
            raise invalid("wrong_audience", "the token names no audience, and this server wants its own") from None
        case wrong.InvalidIssuerError() | wrong.MissingRequiredClaimError(claim="iss"):
            raise invalid("wrong_issuer", "the token is of another issuer") from None
        case wrong.InvalidAlgorithmError():
            raise invalid("wrong_algorithm", "the token is signed with an algorithm that is not accepted here")
        case wrong.InvalidSubjectError():
            raise invalid("bad_claim", "the token's claim sub is no text") from None
        case wrong.InvalidJTIError():
            raise invalid("bad_claim", "the token's claim jti is no text") from None
    if named := _TIME.search(str(error)):
        raise invalid("bad_claim", f"the token's claim {named[1]} is no time in seconds") from None
    raise invalid("malformed", "the token can't be read") from None


def _access(claims: dict[str, Any], token: str) -> Access:
    """What the claims of a verified token grant.

    Raises:
        Denied: a claim is not what it has to be.
    """
    subject, id = claims.get("sub"), claims.get("jti")
    for name in ("sub", "jti"):
        if isinstance(claims.get(name), str) and not is_writable(claims[name]):
            raise invalid("bad_claim", f"the token's claim {name} has a lone surrogate, which UTF-8 can't carry")
        if isinstance(claims.get(name), str) and len(claims[name]) > MOST_NAME:
            raise invalid("bad_claim", f"the token's claim {name} has more than {MOST_NAME:,} characters")
    if subject == "":
        raise invalid("bad_claim", "the token's claim sub is empty: leave it out, or name the user")
    grants = {}
    for name in ("subscribe", "publish"):
        try:
            grants[name] = read_grants(claims.get(name))
        except ValueError as error:
            raise invalid("bad_claim", f"the token's claim {name} {error}") from None
    return Access(
        subject=subject if isinstance(subject, str) else None,
        token=id if isinstance(id, str) and id else fingerprint(token),
        expires=_time(claims, "exp"),
        issued=_time(claims, "iat"),
        subscribe=grants["subscribe"],
        publish=grants["publish"],
        admin=claims.get("admin") is True,
        kind="token",
    )


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds < FOREVER:
        raise invalid("bad_claim", f"the token's claim {name} is no time in seconds")
    return seconds


def fingerprint(token: str) -> str:
    """The name of a token that has no `jti`: of what is signed, since some signatures can be written in two ways."""
    return "sha256:" + hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()[:32]


def new_token(
    secret: str,
    *,
    subject: str | None,
    subscribe: Sequence[str] = (),
    publish: Sequence[str] = (),
    ttl: float | None = 3600.0,
    admin: bool = False,
    more: dict[str, Any] | None = None,
    algorithm: str = "HS256",
    clock: Callable[[], float] = time.time,
) -> str:
    """Make a token that a server with the same secret accepts.

    Args:
        secret: shared with the server.
        subject: the user.
        subscribe, publish: channel patterns.
        ttl: seconds until it expires; None: never.
        admin: whether it may observe and revoke.
        more: further claims, such as `aud` and `iss`.
        algorithm: HS256, HS384 or HS512.
        clock: gives the seconds since the Unix epoch.

    Raises:
        ValueError: a pattern, the subject, `ttl`, `admin` or `algorithm` is not valid.
        TypeError: the secret or the subject is no text.
        ImportError: PyJWT is not installed.
    """
    with Extra("making tokens", "auth"):
        import jwt

    from newswire.server.auth.keys import secret_key

    check_seconds("ttl", ttl)
    check_flag("admin", admin)
    if algorithm not in HMAC:
        raise ValueError(f"algorithm is {', '.join(sorted(HMAC))}, not {algorithm!r:.60}: a secret signs")
    now = clock()
    claims: dict[str, Any] = {"jti": secrets.token_urlsafe(12), "iat": round(now, 3)}
    if subject is not None:
        check_kind("subject", subject, str)
        check_subject(subject)
        claims["sub"] = subject
    if ttl is not None:
        claims["exp"] = math.ceil(now + ttl)  # whole seconds: so PyJWT reads it
    for name, patterns in (("subscribe", subscribe), ("publish", publish)):
        if patterns:
            try:
                claims[name] = list(read_grants(patterns if isinstance(patterns, str) else list(patterns)))
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
    if admin:
        claims["admin"] = True
    return jwt.encode({**claims, **(more or {})}, secret_key(secret).material, algorithm)


def warn_if_weak(secret: str) -> None:
    """Say in the log that a secret is short."""
    if len(secret.encode()) < WEAK:
        logger.warning("the JWT secret has fewer than %d bytes: it can be guessed from one token", WEAK)
