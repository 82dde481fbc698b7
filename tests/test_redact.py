"""What is never shown, obeyed or passed on: control characters, passwords in URLs, credentials."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newswire.redact import is_credential, printable, without_userinfo


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
     "X-Passphrase", "x-forwarded-user", "x-ms-client-principal-id"],
)  # fmt: skip
def test_headers_that_look_like_credentials_count(name: str) -> None:
    """In any case, as text and as bytes, listed or not."""
    assert is_credential(name)
    assert is_credential(name.encode())


@pytest.mark.parametrize(
    "name",
    ["content-type", "accept", "idempotency-key", "sec-websocket-key", "user-agent", "x-request-id", "keyboard-layout",
     "openai-organization", "x-tokenizer", "author", "anthropic-version",
     "max_tokens", "x-monkey", "x-pattern", "x-compat", "idempotencykey"],
)  # fmt: skip
def test_other_headers_are_no_credentials(name: str) -> None:
    """An ordinary header decides nothing."""
    assert not is_credential(name)
