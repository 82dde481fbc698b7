"""What must not be shown or passed on: control characters, passwords in URLs, headers with credentials.

Code calls it before it writes text from outside to a terminal or a log, shows a URL, or decides whose a request is. So
each of these rules is written once. The module stands on the lowest floor, beside the errors: it imports no other
module of newswire.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

# C0 without tab and line feed, DEL and C1 (ECMA-48: U+009B alone begins a control sequence). Line and paragraph
# separator. The marks that change the direction of text (Unicode TR 9), which can make a name look like another. Lone
# surrogates, which no terminal and no file accepts.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_UNSAFE_LINE: Final = re.compile(f"{_UNSAFE.pattern[:-1]}\t\n]")
# The second form is no valid URL: its password has a slash that should be encoded. People still write it. A number
# after the colon is a port and no password.
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
        # The user whom a proxy has authenticated. They tell users of one key apart.
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
# Finds header names that are on no list: those with a word that stands for a secret, or ends with one (`x-authtoken`).
_LOOKS_LIKE_ONE: Final = re.compile(
    r"(?:^|[-_])(?:[a-z]*(?:auth|token|jwt|secret|password|passwd|passphrase|credentials?)|authorization|authentication"
    r"|(?:access|account|api|app|auth|client|license|master|private|secret|service|session|subscription|user)?key"
    r"|session(?:id)?|sid|signature|bearer|pat|cookie2?)(?:$|[-_])"
)
# The names by which proxies and gateways say whose a request is: Cloudflare Access, Pomerium, Tailscale, Kong, APISIX,
# and client certificates.
_NAMES_A_USER: Final = re.compile(
    r"(?:^|[-_])(?:user|userid|username|userinfo|login|email|principal|subject|consumer|tenant|client[-_](?:cert|s?[-_]?dn)"
    r"|(?:org|organization|account)[-_]id)(?:[-_](?:custom[-_])?(?:id|name|username|email|login|dn|idp|info))*$"
    r"|[-_]claim[-_]"
)
# Names with such a word that are no secret: they identify a request or a cached answer.
_NO_CREDENTIAL: Final = frozenset(
    {"idempotency-key", "x-idempotency-key", "sec-websocket-key", "cache-key", "surrogate-key", "x-surrogate-key"}
)
# Parameters of a query: credentials, by the same words, and cursors, which say what somebody has read and until when.
_PARAMETER: Final = re.compile(r"([?&;])([^=&;#]*)=([^&;#]*)")
_CURSOR: Final = re.compile(r"(?:evs_)?last[-_]?event[-_]?id|after|since|cursor")
# A JWT, which a ticket is too: its header is a JSON object (RFC 7519), so it begins with `{"` in Base64. An API key.
_TOKEN: Final = re.compile(r"\beyJ[\w-]{6,}\.[\w-]+\.[\w-]*|\bnwk_[\w-]{8,}")
# A credential or cursor after its scheme, or after its name, as texts about requests have them: headers, and the forms
# of Python and JSON. Of cookies there may be many.
_SCHEME: Final = re.compile(r"""(?i)\b((?:bearer|basic)\s+)[^\s"',;]{4,}""")
_NAMED: Final = re.compile(
    r"""(?i)(?<![\w-])([a-z][\w-]{1,60})(["']?\s*[:=]\s*(?:b?["'])?|["'],\s*b?["'])((?:(?:token|digest|negotiate|apikey)\s+)?)([^\s"',;]{4,})"""
)
_COOKIES: Final = re.compile(r"""(?i)\b((?:set-)?cookie2?["']?\s*[:=,]\s*(?:b?["'])?)[^"'\n]{4,}""")
_ALONE: Final = frozenset({"password", "passwd", "pwd", "secret", "apikey", "last-event-id"})  # without a dash
_SECRET_PARAMETER: Final = re.compile(
    r"(?:^|[-_.])(?:ticket|code|sig|signature|credential|pwd|pass|private)(?:$|[-_.])|token|secret|passw|apikey|jwt"
)


def printable(text: str, *, lines: bool = True) -> str:
    r"""Makes text from outside safe for a terminal or a log: control characters become visible.

    Args:
        text: any text.
        lines: keep tabs and line feeds. If False, they become `\x09` and `\x0a`, for text that must stay on one line.

    Returns:
        the text, with `\x1b`, `\u202e` and the like in place of characters that a terminal would obey.
    """
    return (_UNSAFE if lines else _UNSAFE_LINE).sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def without_userinfo(text: str) -> str:
    """Removes user names and passwords from the URLs in a text: `https://ada:secret@host/` becomes `https://host/`.

    Args:
        text: one URL, or any text with URLs in it, such as the message of an exception.
    """
    return _USERINFO.sub("", text) if "@" in text else text


def is_credential(header: str | bytes) -> bool:
    """Whether a header of a request carries a credential, or names a user: its name is on the list, or looks like that.

    Such headers show whose a request is. They stay out of logs and stored answers, and don't follow a redirect to
    another origin.

    Args:
        header: the header's name, in any case.
    """
    name = (header.decode("latin-1") if isinstance(header, bytes) else header).strip().lower()
    return is_secret(name) or _NAMES_A_USER.search(name) is not None


def is_secret(name: str) -> bool:
    """Whether a header or a parameter of this name, in lower case, carries a credential by itself."""
    if name in CREDENTIAL_HEADERS:
        return True
    return name not in _NO_CREDENTIAL and _LOOKS_LIKE_ONE.search(name) is not None


def without_query_secrets(target: str) -> str:
    """Hides credentials and cursors in the query of a URL or a request's target: `/stream?ticket=…`, for a log.

    Args:
        target: a path with a query, or a URL, percent-encoded or not.
    """
    return _PARAMETER.sub(_hide, target) if "=" in target else target


def without_secrets(text: str) -> str:
    """Hides credentials in any text, for a log: tokens, tickets, API keys, `Authorization` headers, URLs with secrets.

    Args:
        text: a message, or a traceback.
    """
    text = without_query_secrets(without_userinfo(text))
    text = _COOKIES.sub(r"\1[hidden]", _SCHEME.sub(r"\1[hidden]", text))
    return _TOKEN.sub("[hidden]", _NAMED.sub(_hide_named, text))


def _hide_named(found: re.Match[str]) -> str:
    name = found[1].lower()
    if name in _ALONE or name in CREDENTIAL_HEADERS or (("-" in name or "_" in name) and is_secret(name)):
        if found[4].lower() in ("bearer", "basic"):  # its credential is hidden already
            return found[0]
        return f"{found[1]}{found[2]}{found[3]}[hidden]"
    return found[0]


def _hide(found: re.Match[str]) -> str:
    name = unquote(found[2]).strip().lower()
    if found[3] and (_CURSOR.fullmatch(name) or _SECRET_PARAMETER.search(name) or is_secret(name)):
        return f"{found[1]}{found[2]}=[hidden]"
    return found[0]
