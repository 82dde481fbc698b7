"""Headers on their way through a relay: what goes on, what stays, whose a request is, and what no log may see.

Headers are pairs of bytes with names in lower case, as ASGI and httpx have them. What belongs to one connection never
goes on (RFC 9110, section 7.6.1), nor does what tells an upstream of the network before the relay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

CREDENTIALS: Final = (b"authorization", b"x-api-key", b"api-key")
_ONE_CONNECTION: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade http2-settings".split()
)
_NOT_FOR_UPSTREAM: Final = frozenset(
    b"host content-length expect last-event-id forwarded via x-forwarded-for x-forwarded-host x-forwarded-port "
    b"x-forwarded-proto x-forwarded-server x-real-ip".split()
)
# What an upstream says of its own origin, which the relay's is not, and what the relay's server says by itself: which
# web pages may read, among others.
_NOT_FOR_CLIENT: Final = frozenset(b"alt-svc strict-transport-security date server".split())
_CORS: Final = b"access-control-"
_OF_THE_BODY: Final = frozenset(b"content-length content-encoding content-type cache-control x-accel-buffering".split())
_SHORTEST_SECRET: Final = 8  # bytes: a shorter one is no secret, and would be found in innocent words
REDACTED: Final = "[redacted]"


def value_of(headers: Headers, name: bytes) -> str | None:
    """The first value of a header."""
    return next((value.decode("latin-1") for found, value in headers if found == name), None)


def owner_of(headers: Headers) -> str | None:
    """Who asks: a hash of the credentials, so that nothing can be learned from it; None if there are none."""
    found = sorted((name, value.strip()) for name, value in headers if name in CREDENTIALS)
    if not found:
        return None
    digest = hashlib.sha256(b"newswire relay")
    for name, value in found:
        digest.update(b"\0%b\0%b" % (name, hashlib.sha256(value).digest()))
    return f"sha256:{digest.hexdigest()}"


class Redactor:
    """Takes the secrets of a request out of what its upstream says, before it is stored: some upstreams repeat them.

    Args:
        headers: the request's.
    """

    def __init__(self, headers: Headers) -> None:
        found: set[str] = set()
        for name, value in headers:
            if name in CREDENTIALS:
                text = value.decode("latin-1").strip()
                found |= {text, text.partition(" ")[2].strip() or text}
            elif name == b"cookie":
                found |= {part.partition(b"=")[2].strip().decode("latin-1") for part in value.split(b";")}
        self._secrets = sorted((secret for secret in found if len(secret) >= _SHORTEST_SECRET), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without the secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, REDACTED)
        return text


def for_upstream(headers: Headers, *, cookies: bool, stream: bool) -> list[tuple[bytes, bytes]]:
    """A request's headers as they go on.

    Args:
        headers: the client's.
        cookies: whether its cookies go on.
        stream: whether the answer is read here, event by event, and so must not be compressed.
    """
    left_out = _ONE_CONNECTION | _NOT_FOR_UPSTREAM | _named_by_connection(headers)
    if not cookies:
        left_out |= {b"cookie", b"cookie2"}
    if stream:
        left_out |= {b"accept-encoding"}
    kept = [(name, value) for name, value in headers if name not in left_out]
    return [*kept, (b"accept-encoding", b"identity")] if stream else kept


def for_client(headers: Iterable[tuple[bytes, bytes]], *, cookies: bool) -> list[tuple[bytes, bytes]]:
    """An answer's headers as they go on, those of its body among them."""
    lower = [(name.lower(), value) for name, value in headers]
    left_out = _ONE_CONNECTION | _NOT_FOR_CLIENT | _named_by_connection(lower)
    if not cookies:
        left_out |= {b"set-cookie", b"set-cookie2"}
    return [(name, value) for name, value in lower if name not in left_out and not name.startswith(_CORS)]


def beside_the_stream(headers: Headers) -> Mapping[str, str]:
    """Of an answer's headers those that say something beside the stream: request ids, rate limits."""
    found: dict[str, str] = {}
    for raw, value in headers:
        if raw not in _OF_THE_BODY:
            name, text = raw.decode("latin-1"), value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _named_by_connection(headers: Headers) -> set[bytes]:
    return {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
