"""Whose a relayed run is: every credential counts, wherever a request carries it, and none is kept."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.fixtures.relay import CHAT, CHAT_PATH, World, text_of
from tests.fixtures.upstream import Call

from newswire.relay import Relay, RelayOptions, Upstream
from newswire.relay.credentials import Redactor, looks_like_a_key, owner_of
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio

HEADERS = [
    *("authorization", "x-api-key", "api-key", "cf-aig-authorization", "x-goog-api-key", "ocp-apim-subscription-key"),
    *("x-amz-security-token", "proxy-authorization", "cookie", "x-portkey-api-key", "helicone-auth", "x-auth-token"),
    *("x-usertoken", "x-appsecret", "x-accountkey", "x-pat", "x-forwarded-user", "x-ms-client-principal-id"),
    *("cf-access-authenticated-user-email", "tailscale-user-login", "x-consumer-id", "x-tenant-id", "x-user-id"),
]


async def _hello(call: Call) -> None:
    await call.chat(f"answer {call.target}")


@pytest.mark.slow
@pytest.mark.parametrize("header", [*HEADERS, "x-tenant"])
async def test_each_header_that_carries_a_credential_tells_callers_apart(world: World, header: str) -> None:
    """The same key and body give another caller an answer of its own, and the first one is not there for it."""
    world.upstream.script = _hello
    world.relay._options = RelayOptions(credential_headers=("X-Tenant",))
    common = {"authorization": "", "idempotency_key": "k"}
    name = header.replace("-", "_")
    mine = await world.ask(**{**common, name: "a=secret-of-a-4711"})
    await mine.rest()
    again = await world.ask(**{**common, name: "a=secret-of-a-4711"})
    yours = await world.ask(**{**common, name: "a=secret-of-b-0815"})
    assert (again.place == mine.place, yours.place == mine.place) == (True, False)
    assert (await world.get(mine.place, **{**common, name: "a=secret-of-b-0815"})).status == 404
    assert (await world.get(mine.place, **common)).status == 404
    assert len(world.upstream.calls) == 2


@pytest.mark.parametrize("parameter", ["key", "api_key", "accessToken", "subscription-key", "sig", "sas"])
async def test_a_credential_in_the_query_counts_too(world: World, parameter: str, tmp_path: Path) -> None:
    """As Google's API has it; it is redacted as any other."""

    async def script(call: Call) -> None:
        await call.chat(f"you asked {call.target}")

    world.upstream.script = script
    common = {"authorization": "", "idempotency_key": "k"}
    places = []
    for secret in ("secret-of-a-4711-x9", "secret-of-b-0815-x9"):
        answer = await world.ask(path=f"{CHAT_PATH}?{parameter}={secret}", **common)
        places.append(answer.place)
        assert text_of(await answer.rest()) == f"you asked {CHAT_PATH}?{parameter}=[redacted]"
        assert (await world.get(f"{answer.place}?{parameter}={secret}", **common)).status == 200
        assert (await world.get(answer.place, **common)).status == 404
    assert places[0] != places[1]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240  # the log and its WAL
    assert b"secret-of-" not in stored


async def test_without_credentials_a_key_is_not_shared(world: World) -> None:
    """Nothing shows whether it is the same caller; unless the relay is set up for it."""
    world.upstream.script = _hello
    places = {(await world.ask(authorization="", idempotency_key="k")).place for _ in range(2)}
    assert len(places) == 2
    for place in places:
        assert (await world.get(place, authorization="")).status == 200
    world.relay._options = RelayOptions(shared=True)
    places = {(await world.ask(authorization="", idempotency_key="k")).place for _ in range(2)}
    assert len(places) == 1


async def test_an_upstreams_cookies_are_not_kept(world: World, tmp_path: Path) -> None:
    """Neither with a stream nor with an error; whoever else reads the run would get them."""

    async def script(call: Call) -> None:
        if call.headers["x-case"] == "refused":
            await call.answer(400, b"no", set_cookie="session=cookie-4711", x_auth_token="token-4711", x_more="m")
            return
        await call.head(set_cookie="session=cookie-4711", x_auth_token="token-4711", x_more="m")
        await call.chat_rest("Hi")

    world.upstream.script = script
    world.relay._options = RelayOptions(cookies=True)
    for case in ("whole", "refused", "whole"):
        answer = await world.ask(x_case=case, idempotency_key=case)
        assert answer.response.headers["x-more"] == "m"
        assert not {"set-cookie", "x-auth-token"} & answer.response.headers.keys()
        await answer.response.aread()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240  # the log and its WAL
    assert b"cookie-4711" not in stored
    assert b"token-4711" not in stored


@pytest.mark.parametrize("key", ["anything", "lm-studio", "not-needed", "sk-no-key-required", "your-api-key-here"])
async def test_a_key_that_is_a_word_does_not_alter_answers(world: World, key: str) -> None:
    """What people write where a server wants no key may be a word of the answer."""
    text = f"You can write {key}, and 'message' or 'content', for a key."

    async def script(call: Call) -> None:
        await call.chat(text)

    world.upstream.script = script
    answer = await world.ask(authorization=f"Bearer {key}", cookie="theme=content; lang=message-of-choice")
    assert text_of(await answer.rest()) == text


def test_keys_of_services_look_like_keys() -> None:
    """And words, names and placeholders do not."""
    keys = [
        *("sk-proj-abcdEFGH1234", "sk-ant-api03-xyzXYZ", "AIzaSyD-4711abcdefghij", "gsk_4711abcdefgh"),
        *("hf_abcdefGHIJKL", "3f2504e04f8911d39a0c0305e82c3301", "dGhpcyBpcyBubyBrZXkK4711"),
        *("9f86d081-884c-7d65-9a2f-eaa0c55ad015", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "AbCdEfGhIjKlMnOpQrSt"),
    ]
    assert [key for key in keys if not looks_like_a_key(key)] == []
    words = [
        *("anything", "lm-studio", "ollama", "not-needed", "EMPTY", "sk-no-key-required", "none", "token-abc123"),
        *("sk-xxxxxxxxxxxxxxxxxxxx", "your-api-key-here", "internationalization", "aaaaaaaaaaaaaaaaaaaaaaa1"),
    ]
    assert [word for word in words if looks_like_a_key(word)] == []


def test_errors_are_without_the_keys_that_are_words() -> None:
    """An error is no answer: there every credential is taken out; of Basic the password too."""
    redact = Redactor([(b"authorization", b"Bearer lm-studio"), (b"x-api-key", b"short")])
    assert redact("no such key: lm-studio") == "no such key: [redacted]"
    assert redact.content("no such key: lm-studio") == "no such key: lm-studio"
    basic = Redactor([(b"authorization", b"Basic YWRhOmh1bnRlcjItNDcxMS1hYmM=")])  # ada:hunter2-4711-abc
    assert basic.content("it is hunter2-4711-abc") == "it is [redacted]"


def test_credentials_are_the_same_owner_in_any_order() -> None:
    """And empty ones are none."""
    one = [(b"x-api-key", b"a"), (b"cookie", b"b")]
    assert owner_of(one) == owner_of([*reversed(one), (b"authorization", b" "), (b"accept", b"x")])
    assert owner_of([(b"authorization", b"")], b"q=1&key=") is None
    assert owner_of([(b"authorization", b"Bearer")]) is None  # a client whose key is the empty string
    assert owner_of([], b"key=a") != owner_of([], b"key=b")
    assert owner_of([], b"key=a") != owner_of([(b"key", b"a")])


async def test_a_password_in_an_upstreams_url_is_sent_and_never_shown(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """As `Authorization`; it is in no log, no error and no repr."""
    world.upstream.script = _hello
    url = world.upstream.url.replace("//", "//ada:hunter2-4711@")
    gone = "http://ada:hunter2-4711@127.0.0.1:9"
    with caplog.at_level(logging.DEBUG):
        relay = Relay(world.runs, [url, f"gone={gone}"])
        async with asgi_client(relay) as client:
            answers = [await client.post(CHAT_PATH, json=CHAT), await client.get("/v1/models")]
            answers += [await client.post(f"/gone{CHAT_PATH}", json=CHAT), await client.get("/gone/v1/models")]
            answers.append(await client.get("/"))
        await relay.close()
    assert [call.headers["authorization"] for call in world.upstream.calls] == ["Basic YWRhOmh1bnRlcjItNDcxMQ=="] * 2
    assert [answer.status_code for answer in answers] == [200, 200, 502, 502, 200]
    shown = [caplog.text, *(answer.text for answer in answers), repr(Upstream(url)), str(relay._upstreams)]
    with pytest.raises(ValueError, match="an upstream is") as error:
        Upstream("ftp://ada:hunter2-4711@x")
    with pytest.raises(ValueError, match="an upstream is") as query:
        Upstream.parse("https://ada:hunter2-4711@x?y=z")
    for text in [*shown, str(error.value), str(query.value)]:
        assert "hunter2" not in text
        assert "YWRh" not in text
