"""What must not be shown or passed on: control characters, passwords in URLs, headers that carry credentials.

Whatever writes text from outside to a terminal or a log, shows a URL, or decides whose a request is, asks here, so that
each of these rules exists once. It stands on the lowest floor, beside the errors, and imports nothing of newswire's.
"""

from __future__ import annotations

import re
from typing import Final

# C0 but tab and line feed, DEL and C1 (ECMA-48: U+009B alone begins a control sequence); line and paragraph separator;
# the marks that change the direction of text (Unicode TR 9), with which a name can look like another; lone surrogates,
# which no terminal and no file takes.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_UNSAFE_LINE: Final = re.compile(f"{_UNSAFE.pattern[:-1]}\t\n]")
# The second form is no URL: its password has a slash that should be encoded. People write it all the same. What stands
# behind the colon is no password if it is a port.
_USERINFO: Final = re.compile(
    r"(?<=//)(?:[^/?#\s@]*(?:@[^/?#\s@]*)*@|[^/?#\s@:\[]*:(?!\d*[/?#])[^/?#\s@]*[/?#][^\s@]{0,256}@)"
)

CREDENTIAL_HEADERS: Final = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "cookie2",
        "x-api-key",
        "api-key",
        "apikey",
        "x-goog-api-key",
        "x-goog-iam-authorization-token",
        "ocp-apim-subscription-key",
        "cf-aig-authorization",
        "cf-access-client-id",
        "cf-access-client-secret",
        "cf-access-jwt-assertion",
        "x-amz-security-token",
        "x-forwarded-access-token",
        "x-ms-token-aad-access-token",
        "x-vault-token",
        "x-auth-token",
        "x-access-token",
        "x-csrf-token",
        # Whom a proxy that asks for passwords has let in: it tells users of one key apart.
        "remote-user",
        "x-remote-user",
        "x-webauth-user",
        "x-forwarded-user",
        "x-forwarded-email",
        "x-forwarded-preferred-username",
        "x-forwarded-client-cert",
        "x-amzn-oidc-identity",
        "x-goog-authenticated-user-email",
        "x-goog-authenticated-user-id",
        "x-ms-client-principal",
        "x-ms-client-principal-id",
    }
)
# Header names that no list has: a word of them that stands for a secret, or ends with one (`x-authtoken`).
_LOOKS_LIKE_ONE: Final = re.compile(
    r"(?:^|[-_])(?:[a-z]*(?:auth|token|jwt|secret|password|passwd|passphrase|credentials?)|authorization|authentication"
    r"|(?:access|account|api|app|auth|client|license|master|private|secret|service|session|subscription|user)?key"
    r"|session(?:id)?|signature|bearer|pat|cookie2?)(?:$|[-_])"
)
# They have such a word, and are no secret: what a client says about one try of a request.
_NO_CREDENTIAL: Final = frozenset(
    {"idempotency-key", "x-idempotency-key", "sec-websocket-key", "cache-key", "surrogate-key", "x-surrogate-key"}
)


def printable(text: str, *, lines: bool = True) -> str:
    r"""Text from outside, safe to write to a terminal or a log: control characters are shown and not obeyed.

    Args:
        text: any text.
        lines: keep tabs and line feeds; False shows them too, as `\x09` and `\x0a`, for what must stay on one line.

    Returns:
        the text, with `\x1b`, `\u202e` and the like in place of what a terminal would obey.
    """
    return (_UNSAFE if lines else _UNSAFE_LINE).sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def without_userinfo(text: str) -> str:
    """Text without the user names and passwords of the URLs in it: `https://ada:secret@host/` becomes `https://host/`.

    Args:
        text: one URL, or any text that has URLs in it, such as an exception's.
    """
    return _USERINFO.sub("", text) if "@" in text else text


def is_credential(header: str | bytes) -> bool:
    """Whether a header of a request carries a credential: it is in the list, or its name looks like one.

    Such headers tell whose a request is, stay out of logs and stored answers, and don't follow a redirect to another
    origin.

    Args:
        header: the header's name, in any case.
    """
    name = (header.decode("latin-1") if isinstance(header, bytes) else header).strip().lower()
    if name in CREDENTIAL_HEADERS:
        return True
    return name not in _NO_CREDENTIAL and _LOOKS_LIKE_ONE.search(name) is not None
