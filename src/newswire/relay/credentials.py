"""The credentials of a request: which owner it names, and what must not be kept with the answer.

One list says which headers carry credentials (`newswire.redact.is_credential`); parameters of the query that look like
them count too, since some APIs take their keys there. The owner of a run and the `Redactor` both come from it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qsl, quote

from newswire.redact import is_credential, is_secret
from newswire.relay.headers import Headers

REDACTED: Final = "[redacted]"
_SHORTEST_SECRET: Final = 8  # characters: a shorter one is no secret, and would be found in innocent words
_IN_QUERY: Final = frozenset({"sig", "sas", "hmac", "code"})  # parameters whose names say less than those of headers
_SCHEMES: Final = frozenset({"bearer", "basic", "token"})  # with nothing behind them: a client without a key
# What keys of well-known services begin with.
_PREFIX: Final = re.compile(
    r"sk-|sk_|pk-|pk_|rk_|AIza|ya29\.|gsk_|xai-|hf_|gh[opsu]_|github_pat_|glpat-|AKIA|ASIA|eyJ|r8_|nvapi-|pplx-|tgp_|fw_"
)
_PLACEHOLDERS: Final = frozenset({"sk-no-key-required"})  # what people write where a server wants no key
_SHORTEST_KEY: Final = 16  # characters; with a known prefix 12
_ENOUGH: Final = 3.0  # bits of entropy a character; words and names have less, or no digits
_ENOUGH_WITH_PREFIX: Final = 2.5


def credentials_of(headers: Headers, query: bytes = b"", also: Collection[str] = ()) -> list[tuple[str, str]]:
    """What of a request is a credential: pairs of a name and a value that is not empty, sorted.

    Args:
        headers: the request's, names in lower case.
        query: its query, as it came.
        also: further names of headers that carry credentials, in lower case.
    """
    found = [
        (name.decode("latin-1"), value.decode("latin-1").strip())
        for name, value in headers
        if is_credential(name) or name.decode("latin-1") in also
    ]
    # Latin-1 keeps every byte apart, and `parse_qsl` undoes what clients may have encoded or not.
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    found += [(f"?{name}", value) for name, value in pairs if is_secret(name.lower()) or name.lower() in _IN_QUERY]
    return sorted(pair for pair in found if pair[1] and pair[1].lower() not in _SCHEMES)


def owner_of(headers: Headers, query: bytes = b"", also: Collection[str] = ()) -> str | None:
    """Whose a request is: a hash of its credentials, so that nothing can be learned from it; None if it has none.

    Args:
        headers, query, also: see `credentials_of`.
    """
    found = credentials_of(headers, query, also)
    if not found:
        return None
    digest = hashlib.sha256(b"newswire relay")
    for name, value in found:
        digest.update(b"\0%b\0%b" % (name.encode(), hashlib.sha256(value.encode("latin-1")).digest()))
    return f"sha256:{digest.hexdigest()}"


class Redactor:
    """Takes the secrets of a request out of what its upstream says, before it is stored: some upstreams repeat them.

    Args:
        headers, query, also: see `credentials_of`.
    """

    def __init__(self, headers: Headers, query: bytes = b"", also: Collection[str] = ()) -> None:
        found: set[str] = set()
        for name, value in credentials_of(headers, query, also):
            if name in ("cookie", "cookie2"):
                found |= {part.partition("=")[2].strip() for part in value.split(";")}
            else:
                found |= _forms(value)
        self._secrets = sorted((secret for secret in found if len(secret) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._keys = [secret for secret in self._secrets if looks_like_a_key(secret)]

    def __call__(self, text: str) -> str:
        """An error or a header without any of the secrets."""
        return _without(text, self._secrets)

    def content(self, text: str) -> str:
        """A piece of an answer without those secrets that look like keys.

        Servers that want no key get `anything` or `lm-studio` for one, and a model may write such words.
        """
        return _without(text, self._keys)


def looks_like_a_key(secret: str) -> bool:
    """Whether a credential can't be a word or a name: by its prefix, its length, and how its characters are mixed."""
    if secret in _PLACEHOLDERS or not secret.isascii():
        return False
    many = len(secret)
    bits = -sum(count / many * math.log2(count / many) for count in Counter(secret).values())
    if _PREFIX.match(secret):
        return many >= 12 and bits >= _ENOUGH_WITH_PREFIX
    mixed = any(c.isdigit() for c in secret) and any(c.isalpha() for c in secret)
    mixed = mixed or (secret.upper() != secret != secret.lower() and secret.isalnum())
    return many >= _SHORTEST_KEY and mixed and bits >= _ENOUGH


def _forms(value: str) -> set[str]:
    """A credential as an upstream may repeat it: with its scheme and without; of `Basic` the password too."""
    scheme, _, rest = value.partition(" ")
    found = {value, rest.strip() or value, quote(value, safe="")}
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            return found
        found |= {pair, pair.partition(":")[2]}
    return found


def _without(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, REDACTED)
    return text
