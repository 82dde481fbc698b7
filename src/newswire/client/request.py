"""The requests that a source makes, built from the user's arguments, the cursor, and redirects.

Values and pure functions, for `Session` and `Protocol`. The protocol decides when a request is made, and a transport
sends it; nothing here does I/O. A user and a password in a URL become an `Authorization` header here, since libraries
write URLs into logs and errors.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urljoin, urlsplit

from newswire.redact import is_credential
from newswire.validate import check_kind
from newswire.wire.headers import CONTENT_TYPE
from newswire.wire.payload import write_json

Fields = tuple[tuple[bytes, bytes], ...]

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
# A field value as RFC 9110, section 5.5 allows it, without its deprecated forms: no control characters, no white space
# at either end. HTTP libraries raise at anything else.
_VALUE: Final = re.compile(rb"[^\x00-\x20\x7f]([^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?")
# Servers take 8 KB for all fields together. A longer request is answered with 431, which would end the source for good.
_LONGEST_ID: Final = 4096
_BLANK: Final = re.compile(r"^[\x00-\x20]+|[\x00-\x20]+$|[\t\r\n]")  # the URL standard removes these first
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "QUERY"})


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes:
        method: in upper case.
        url: absolute, without a fragment.
        headers: names in lower case.
        body: None if there is no body.
        foreign: whether it goes to another origin than the user named. Then no transport may add credentials to it.
    """

    method: str
    url: str
    headers: Fields = field(repr=False)  # credentials are among them
    body: bytes | None = field(default=None, repr=False)
    foreign: bool = False

    @property
    def idempotent(self) -> bool:
        """Whether the method is one that may be sent twice (RFC 9110, section 9.2.2)."""
        return self.method in _IDEMPOTENT

    @property
    def takes_compressed(self) -> bool:
        """Whether the user asked for a compressed answer."""
        return any(name == b"accept-encoding" and value != b"identity" for name, value in self.headers)


def make_request(method: str | None, url: str, headers: Mapping[str, str] | Fields | None, body: Any) -> Request:
    """Makes the request that the user asked for.

    Args:
        method: None means GET, or POST if there is a body.
        url: absolute. A user and a password in it become `Authorization`, unless `headers` has one.
        headers: these replace our own of the same name.
        body: bytes are sent as they are, a str as UTF-8, anything else as JSON.

    Raises:
        ValueError: HTTP can't carry the address, the method or a header field.
    """
    if method is None:
        method = "GET" if body is None else "POST"
    check_kind("method", method, str)
    if not _TOKEN.fullmatch(method.encode("utf-8", "replace")):
        raise ValueError(f"{method!r} is not an HTTP method")
    fields = make_fields(headers)
    basic = _basic(check_url(url))
    if basic is not None and not any(name == b"authorization" for name, _ in fields):
        fields = (*fields, (b"authorization", basic))
    if body is not None and not isinstance(body, bytes):
        if not isinstance(body, str):
            try:
                body = write_json(body)
            except (TypeError, ValueError) as error:
                raise type(error)(f"body is sent as JSON, and this can't be: {error}") from None
            if not any(name == b"content-type" for name, _ in fields):
                fields = (*fields, (b"content-type", b"application/json"))
        body = body.encode()
    return Request(method.upper(), _bare(check_url(url)), fields, body)


def _basic(url: str) -> bytes | None:
    """The `Authorization` for the user and the password in a URL (RFC 7617); None if it has neither."""
    parts = urlsplit(url)
    if not parts.username and not parts.password:
        return None
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return b"Basic " + base64.b64encode(pair.encode())


def _bare(url: str) -> str:
    """A URL without user and password. Nothing else of it changes, whatever its query looks like."""
    begin = url.index("://") + 3
    end = next((place for place in range(begin, len(url)) if url[place] in "/?#"), len(url))
    return url[:begin] + url[begin:end].rpartition("@")[2] + url[end:]


def make_fields(headers: Mapping[str, str] | Fields | None) -> Fields:
    """Returns the header fields of a request: the user's, and our own where the user gave none.

    Raises:
        ValueError: HTTP can't carry a name or a value.
    """
    if headers is None:
        headers = {}
    given: Any = headers.items() if isinstance(headers, Mapping) else headers
    try:
        fields = [(_raw(name).lower(), _raw(value)) for name, value in given]
    except (TypeError, ValueError, AttributeError):
        raise TypeError("headers is a mapping of texts to texts, such as {'Authorization': '...'}") from None
    for name, value in fields:
        if not _TOKEN.fullmatch(name) or (value and not _VALUE.fullmatch(value)):
            raise ValueError(f"HTTP can't carry the header field {name.decode('utf-8', 'replace')!r} with that value")
    own = {name for name, _ in fields}
    defaults = (
        # "Set (`Accept`, `text/event-stream`) in request's header list." (9.2.2)
        (b"accept", CONTENT_TYPE.encode()),
        # "Set request's cache mode to 'no-store'", for which Fetch says: append (`Cache-Control`, `no-cache`).
        (b"cache-control", b"no-cache"),
        # A compressing server or proxy would hold events back until a block is full.
        (b"accept-encoding", b"identity"),
    )
    return (*(pair for pair in defaults if pair[0] not in own), *fields)


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def check_url(url: str) -> str:
    """Returns an absolute `http` or `https` URL without its fragment.

    Raises:
        ValueError: `url` is no such URL.
    """
    check_kind("url", url, str)
    url = _BLANK.sub("", url)
    try:
        parts = urlsplit(url)
        good = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False  # a port that is no number, or a bad IPv6 address
    if not good:
        # A password with a slash in it makes a URL bad. The message must not show it.
        shown = url.rpartition("@")[2]
        raise ValueError(f"{shown[:200]!r} is not an absolute http:// or https:// URL")
    return url.partition("#")[0]


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Credentials go only where all three are the same."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def with_cursor(request: Request, id: str, query: str | None) -> tuple[Request, bool]:
    """Returns the request with the last event ID in it, and whether the ID could be put there."""
    if not id:
        return request, True
    # "If the EventSource object's last event ID string is not the empty string: let lastEventIDValue be [it], encoded
    # as UTF-8; set (`Last-Event-ID`, lastEventIDValue) in request's header list." (9.2.3)
    value = id.encode("utf-8", "replace")
    sendable = len(value) <= _LONGEST_ID and _VALUE.fullmatch(value) is not None
    if sendable:
        fields = tuple(pair for pair in request.headers if pair[0] != b"last-event-id")
        request = replace(request, headers=(*fields, (b"last-event-id", value)))
    if query is None:
        return request, sendable
    # The rest of the query stays as it is, to the byte, since it may be signed.
    place, _, rest = request.url.partition("?")
    others = [pair for pair in rest.split("&") if rest and unquote_plus(pair.partition("=")[0]) != query]
    pairs = "&".join([*others, f"{quote_plus(query)}={quote_plus(id)}"])
    return replace(request, url=f"{place}?{pairs}"), True


def resolve(base: str, location: str) -> str:
    """Returns the address that a `Location` names, relative to `base`.

    Raises:
        ValueError: the location is empty, or no HTTP address.
    """
    if not location.strip():
        raise ValueError("it is empty")
    # Percent-encodes what is no URL character: servers do send raw UTF-8 and blanks there.
    location = quote(location.strip().encode("latin-1", "replace"), safe="%/:?#[]@!$&'()*+,;=~")
    return _bare(check_url(urljoin(base, location)))


def moved(request: Request, url: str, *, keep: bool) -> Request:
    """Returns the request for another address.

    Args:
        keep: keep method and body. Otherwise the request becomes a GET without a body.
    """
    foreign = request.foreign or origin(url) != origin(request.url)
    method, body, headers = request.method, request.body, request.headers
    if not keep:
        # Fetch, HTTP-redirect fetch, 12: "Set request's method to `GET` and request's body to null", and remove each
        # request-body-header.
        method, body = "GET", None
        headers = tuple(pair for pair in headers if not pair[0].startswith(b"content-"))
    if foreign:
        headers = tuple(pair for pair in headers if not is_credential(pair[0]))
    return Request(method, url, headers, body, foreign)
