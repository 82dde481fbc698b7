"""Headers on their way through a relay: what goes on, and what stays.

Headers are pairs of bytes with names in lower case, as ASGI and httpx have them. What belongs to one connection never
goes on (RFC 9110, section 7.6.1), nor does what tells an upstream of the network before the relay. An answer's
credentials, such as its cookies, are for the client that asked, so they are not kept with a run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from newswire.redact import is_credential
from newswire.wire.headers import STREAM_HEADERS, is_event_stream

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

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


def value_of(headers: Headers, name: bytes) -> str | None:
    """The first value of a header."""
    return next((value.decode("latin-1") for found, value in headers if found == name), None)


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
    if any(name == b"transfer-encoding" for name, _ in lower):
        left_out |= {b"content-length"}  # RFC 9112, section 6.3: what it says is overridden, and must not go on
    return [(name, value) for name, value in lower if name not in left_out and not name.startswith(_CORS)]


def as_stream(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """An answer's headers; those of an event stream also ask the proxies on the way to the client not to buffer it."""
    if not is_event_stream(value_of(headers, b"content-type")):
        return headers
    known = {name for name, _ in headers}
    return [*headers, *(pair for pair in STREAM_HEADERS if pair[0] not in known)]


def extra_headers(headers: Headers) -> Mapping[str, str]:
    """Of an answer's headers those that say something beside the stream: request ids, rate limits."""
    found: dict[str, str] = {}
    for raw, value in headers:
        if raw not in _OF_THE_BODY:
            name, text = raw.decode("latin-1"), value.decode("latin-1")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def kept(headers: Headers, also: Collection[str] = ()) -> list[tuple[bytes, bytes]]:
    """Of an answer's headers those that may be stored, and be read by others than the client that asked.

    Args:
        headers: the answer's.
        also: further names of headers that carry credentials, in lower case.
    """
    return [(name, value) for name, value in headers if not is_credential(name) and name.decode("latin-1") not in also]


def _named_by_connection(headers: Headers) -> set[bytes]:
    return {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
