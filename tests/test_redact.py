"""What is never shown, obeyed or passed on: control characters, passwords in URLs, credentials."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.redact import is_credential, printable, without_query_secrets, without_secrets, without_userinfo


@given(st.text(st.characters()))
def test_printable_text_moves_no_cursor(text: str) -> None:
    """Whatever comes from outside, no control and no mark of direction is left, and it can be written as UTF-8."""
    shown = printable(text, lines=False)
    shown.encode()
    assert not any(unicodedata.category(each) in ("Cc", "Zl", "Zp", "Cs") for each in shown)
    assert not any(
        unicodedata.bidirectional(each) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        for each in shown
    )
    assert printable(shown, lines=False) == shown


def test_escape_sequences_are_shown() -> None:
    """A person sees what was sent."""
    assert printable("\x1b]0;owned\x07 \x9b31m \u202eabc\n\tx") == r"\x1b]0;owned\x07 \x9b31m \u202eabc" + "\n\tx"
    assert printable("a\nb\t\r", lines=False) == r"a\x0ab\x09\x0d"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ada:secret@example.org/x", "https://example.org/x"),
        ("postgresql://app:p@ss@db:5432/x failed", "postgresql://db:5432/x failed"),
        ("redis://:hunter2@h, redis://u@h2", "redis://h, redis://h2"),
        ("mail ada@example.org about https://example.org/@ada", "mail ada@example.org about https://example.org/@ada"),
        ("https://example.org/?q=a@b#c@d", "https://example.org/?q=a@b#c@d"),
        ("//u:p@h/x", "//h/x"),
        ("can't use 'http://ada:hun/ter?2@host:80/x'", "can't use 'http://host:80/x'"),
        ("http://host:8080/x@y", "http://host:8080/x@y"),
        ("http://[::1]:80/x@y", "http://[::1]:80/x@y"),
        ("https://host/a:b@c", "https://host/a:b@c"),
    ],
)
def test_no_url_shows_its_password(text: str, shown: str) -> None:
    """In a URL, and in any text with URLs in it."""
    assert without_userinfo(text) == shown


@pytest.mark.parametrize(
    "name",
    ["Authorization", "cookie", "X-Api-Key", "api-key", "x-goog-api-key", "Ocp-Apim-Subscription-Key", "X-My-Secret",
     "cf-aig-authorization", "X-Amz-Security-Token", "proxy-authorization", "x-portkey-api-key", "helicone-auth",
     "X-Session-Id", "X-AuthToken", "accessToken", "subscriptionKey", "X-AppSecret", "x-licensekey", "X-PAT",
     "X-Passphrase", "x-forwarded-user", "x-ms-client-principal-id", "X-SID"],
)  # fmt: skip
def test_headers_that_look_like_credentials_count(name: str) -> None:
    """In any case, as text and as bytes, listed or not."""
    assert is_credential(name)
    assert is_credential(name.encode())


@pytest.mark.parametrize(
    "name",
    ["Cf-Access-Authenticated-User-Email", "Tailscale-User-Login", "tailscale-user-name", "x-pomerium-claim-email",
     "x-ms-client-principal-name", "x-ms-client-principal-idp", "X-Consumer-ID", "x-consumer-custom-id",
     "x-consumer-username", "X-Authenticated-User", "x-authenticated-userid", "X-Userinfo", "x-endpoint-api-userinfo",
     "x-apigateway-api-userinfo", "x-user", "x-user-id", "X-User-Email", "x-real-user", "x-client-cert",
     "x-ssl-client-cert", "ssl-client-subject-dn", "x-ssl-client-s-dn", "x-tenant-id", "x-org-id", "x-account-id"],
)  # fmt: skip
def test_headers_that_name_a_user_count(name: str) -> None:
    """Proxies and gateways set them for all users of one key. They are no secret that a log hides."""
    assert is_credential(name)
    assert is_credential(name.encode())
    assert without_query_secrets(f"/x?{name.lower()}=ada") == f"/x?{name.lower()}=ada" or "claim" in name


@pytest.mark.parametrize(
    "name",
    ["x-amz-user-agent", "sec-ch-ua", "x-goog-user-project", "content-type",
     "accept", "idempotency-key", "sec-websocket-key", "user-agent", "x-request-id", "keyboard-layout",
     "openai-organization", "x-tokenizer", "author", "anthropic-version",
     "max_tokens", "x-monkey", "x-pattern", "x-compat", "idempotencykey"],
)  # fmt: skip
def test_other_headers_are_no_credentials(name: str) -> None:
    """An ordinary header decides nothing."""
    assert not is_credential(name)


@pytest.mark.parametrize(
    "text",
    ["Authorization: {}", "authorization: Token {}", "Proxy-Authorization: Digest {}", "X-Auth-Token: {}",
     "x-goog-api-key={}", "{{'api_key': '{}'}}", '{{"api-key": "{}"}}', "(b'x-api-key', b'{}')", "password={}",
     "AWS_SECRET_ACCESS_KEY={}", "Cookie: a=b; sid={}; c=d", "[('cookie', 'a=b; sid={}')]", "Bearer {}", "basic {}",
     "Authorization: Bearer {}", "[('authorization', 'Bearer {}')]", "/x?sig={}", "https://ada:{}@host/"],
)  # fmt: skip
def test_a_log_line_without_secrets(text: str) -> None:
    """However a text about a request has them."""
    assert "hunter2" not in without_secrets(text.format("hunter2hunter2"))


@pytest.mark.parametrize(
    "text",
    ["invalid token: expected a name", "key: value", "the session: closed", "Content-Type: text/plain",
     "idempotency-key: answer-42", "user-agent: newswire/1.0", "x-user-id: ada", "a=1, b=2", "Authorization: "],
)  # fmt: skip
def test_a_log_line_that_has_none(text: str) -> None:
    """It stays as it is."""
    assert without_secrets(text) == text
