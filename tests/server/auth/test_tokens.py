"""Tokens of attackers, and of people who make mistakes: the exact answer to each."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.fixtures.serve import Serve, run_newswire
from tests.server.auth.conftest import CLIENT, SECRET

from newswire import Hub
from newswire.delivery.problem import ERRORS
from newswire.server.auth import Auth, Denied, Tokens, new_token, read_keys, secret_key
from newswire.server.auth.api_keys import new_key
from newswire.server.auth.keys import Key
from newswire.server.auth.revocations import Revoked

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
GOOD = {"sub": "ada", "subscribe": ["room.*"]}
KNOWN = "the token is not signed with a key that this server knows"
NOT_ACCEPTED = "the token is signed with an algorithm that is not accepted here"


def pem(key: Any) -> str:
    """The public half of a key."""
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def b64(value: bytes | dict[str, Any]) -> str:
    """A part of a token."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def by_hand(head: dict[str, Any], claims: dict[str, Any] | bytes, key: bytes | None) -> str:
    """A token as an attacker writes it: signed with HMAC-SHA-256 whatever its head says, or not at all."""
    signed = f"{b64(head)}.{b64(claims)}"
    signature = b"" if key is None else hmac.digest(key, signed.encode(), hashlib.sha256)
    return f"{signed}.{b64(signature)}"


def claims(**more: Any) -> dict[str, Any]:
    """Good claims, with changes; None takes one out."""
    changed = {**GOOD, "exp": int(time.time()) + 600, **more}
    return {name: value for name, value in changed.items() if value is not None}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server that knows a secret and three public keys."""
    folder = tmp_path_factory.mktemp("keys")
    flags = ["--jwt-secret", SECRET]
    for name, key in (("rsa", RSA), ("ec", EC), ("ed", ED)):
        (folder / name).write_text(pem(key))
        flags += ["--jwt-key", name]
    with Serve(folder, *flags) as server:
        yield server


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server that wants an audience, an issuer and one algorithm."""
    flags = ("--jwt-secret", SECRET, "--jwt-audience", "news", "--jwt-issuer", "https://id.example")
    with Serve(tmp_path_factory.mktemp("strict"), *flags, "--jwt-algorithm", "HS512") as server:
        yield server


def answer_to(server: Serve, token: str) -> httpx2.Response:
    """The answer to a token."""
    return CLIENT.get(f"{server.url}/channels/room.1/events", headers={"authorization": f"Bearer {token}"})


def assert_refused(server: Serve, token: str, reason: str, detail: str) -> None:
    """A 401 with exactly this in its body and its header."""
    answer = answer_to(server, token)
    assert answer.json() == {
        "type": f"{ERRORS}#unauthenticated", "title": "Unauthorized", "status": 401, "code": "unauthenticated",
        "detail": detail, "reason": reason,
    }  # fmt: skip
    challenge = f'Bearer realm="newswire", error="invalid_token", error_description="{detail}"'
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, challenge)
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(SECRET, "HS256"), (SECRET, "HS384"), (SECRET, "HS512"), (RSA, "RS256"), (RSA, "RS512"), (RSA, "PS256"),
     (EC, "ES256"), (ED, "EdDSA")],
    ids=lambda value: value if isinstance(value, str) and value != SECRET else "key",
)  # fmt: skip
def test_each_kind_of_key_lets_its_tokens_in(keyed: Serve, key: Any, algorithm: str) -> None:
    """Signed well, it is good."""
    assert answer_to(keyed, jwt.encode(claims(), key, algorithm)).status_code == 200


def test_none(keyed: Serve) -> None:
    """Without a signature, however `none` is written."""
    for algorithm in ("none", "None", "NONE", "nOnE", ""):
        assert_refused(keyed, by_hand({"alg": algorithm}, claims(), None), "wrong_algorithm", NOT_ACCEPTED)
    assert_refused(keyed, by_hand({"alg": "none"}, claims(), SECRET.encode()), "wrong_algorithm", NOT_ACCEPTED)
    assert_refused(keyed, by_hand({}, claims(), SECRET.encode()), "wrong_algorithm", NOT_ACCEPTED)


def test_key_confusion(keyed: Serve) -> None:
    """A public key is no secret: HMAC with its text, in any form, is a forgery."""
    for key in (RSA, EC, ED):
        text = pem(key).encode()
        der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for secret in (text, text.strip(), text.replace(b"\n", b"\r\n"), der, b"", b"\0" * 64):
            assert_refused(keyed, by_hand({"alg": "HS256", "typ": "JWT"}, claims(), secret), "bad_signature", KNOWN)


def test_the_head_of_a_token_is_not_believed(keyed: Serve) -> None:
    """Its own key, and addresses of keys, count for nothing; nothing is fetched."""
    own = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_RSA.public_key()))
    for more in (
        {"jwk": own},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/"},
        {"kid": "../../etc"},
    ):
        forged = jwt.encode(claims(), OTHER_RSA, "RS256", headers=more)
        assert_refused(keyed, forged, "bad_signature", KNOWN)
    critical = by_hand({"alg": "HS256", "crit": ["b64"], "b64": False}, claims(), SECRET.encode())
    assert answer_to(keyed, critical).status_code == 401
    assert answer_to(keyed, by_hand({"alg": "HS256", "crit": ["new"]}, claims(), SECRET.encode())).status_code == 401


def test_forged(keyed: Serve) -> None:
    """Another key of the same kind, claims that were changed, a signature that was cut."""
    assert_refused(keyed, jwt.encode(claims(), "x" * 40, "HS256"), "bad_signature", KNOWN)
    assert_refused(keyed, jwt.encode(claims(), OTHER_RSA, "RS256"), "bad_signature", KNOWN)
    head, _, signature = jwt.encode(claims(), SECRET, "HS256").split(".")
    assert_refused(keyed, f"{head}.{b64(claims(subscribe=['>']))}.{signature}", "bad_signature", KNOWN)
    good = jwt.encode(claims(), SECRET, "HS256")
    assert_refused(keyed, good[: good.rindex(".") + 1], "bad_signature", KNOWN)
    assert answer_to(keyed, good[:-4]).json()["reason"] in ("bad_signature", "malformed")
    mixed = jwt.encode(claims(), RSA, "RS256").rpartition(".")[2]
    assert answer_to(keyed, f"{b64({'alg': 'ES256'})}.{b64(claims())}.{mixed}").status_code == 401


def test_wrong_algorithm(strict: Serve, keyed: Serve) -> None:
    """One that the server does not want, though the key is right; and one that no key of it is for."""
    more = {"aud": "news", "iss": "https://id.example"}
    assert_refused(strict, jwt.encode(claims(**more), SECRET, "HS256"), "wrong_algorithm", NOT_ACCEPTED)
    other = ec.generate_private_key(ec.SECP384R1())
    assert_refused(keyed, jwt.encode(claims(), other, "ES384"), "wrong_algorithm", NOT_ACCEPTED)
    assert answer_to(strict, jwt.encode(claims(**more), SECRET, "HS512")).status_code == 200


def test_expired_and_not_yet_valid(keyed: Serve) -> None:
    """By its own times, without a leeway."""
    now = int(time.time())
    assert_refused(keyed, jwt.encode(claims(exp=now - 1), SECRET), "expired", "the token has expired")
    detail = "the token is not valid yet: its nbf or iat is in the future"
    assert_refused(keyed, jwt.encode(claims(nbf=now + 60), SECRET), "not_yet_valid", detail)
    assert_refused(keyed, jwt.encode(claims(iat=now + 60), SECRET), "not_yet_valid", detail)
    assert answer_to(keyed, jwt.encode(claims(exp=None), SECRET)).status_code == 200


def test_wrong_audience_and_issuer(strict: Serve, keyed: Serve) -> None:
    """For another service, or of another issuer; a token for somebody is not for a server that has no name."""

    def signed(**more: Any) -> str:
        return jwt.encode(claims(**{"aud": "news", "iss": "https://id.example"} | more), SECRET, "HS512")

    assert answer_to(strict, signed(aud=["other", "news"])).status_code == 200
    for audience in ("other", ["other"], "NEWS", "news "):
        assert_refused(strict, signed(aud=audience), "wrong_audience", "the token is for another audience")
    nothing = "the token names no audience, and this server wants its own"
    assert_refused(strict, signed(aud=None), "wrong_audience", nothing)
    for issuer in (None, "https://id.example.evil", "https://id.example/"):
        assert_refused(strict, signed(iss=issuer), "wrong_issuer", "the token is of another issuer")
    assert_refused(keyed, jwt.encode(claims(aud="news"), SECRET), "wrong_audience", "the token is for another audience")


@pytest.mark.parametrize(
    ("change", "claim"),
    [({"subscribe": 5}, "subscribe"), ({"subscribe": ["room..1"]}, "subscribe"), ({"publish": ["a", None]}, "publish"),
     ({"subscribe": {"room.*": True}}, "subscribe"), ({"subscribe": ["room.**"]}, "subscribe"),
     ({"publish": ["a"] * 1001}, "publish"), ({"subscribe": ['x"\r\ny: 1']}, "subscribe")],
)  # fmt: skip
def test_a_claim_that_is_none(keyed: Serve, change: dict[str, Any], claim: str) -> None:
    """The whole token is refused, and the claim is named; nothing of it gets out of its header."""
    answer = answer_to(keyed, jwt.encode(claims(**change), SECRET))
    assert (answer.status_code, answer.json()["reason"]) == (401, "bad_claim")
    assert f"claim {claim} " in answer.json()["detail"]
    assert answer.headers["www-authenticate"].count('"') == 6
    assert "y" not in answer.headers


@pytest.mark.parametrize(
    ("change", "detail"),
    [({"sub": 5}, "sub is no text"), ({"jti": 5}, "jti is no text"), ({"exp": "soon"}, "exp is no time in seconds"),
     ({"exp": 1e400}, "exp is no time in seconds"), ({"exp": [1]}, "exp is no time in seconds"),
     ({"exp": None, "iat": -5}, "iat is no time in seconds"), ({"iat": {}}, "iat is no time in seconds"),
     ({"nbf": []}, "nbf is no time in seconds"), ({"exp": 10**30}, "exp is no time in seconds"),
     ({"sub": "\ud800"}, "sub has a lone surrogate, which UTF-8 can't carry"),
     ({"jti": "a\udc00"}, "jti has a lone surrogate, which UTF-8 can't carry"),
     ({"sub": ""}, "sub is empty: leave it out, or name the user"),  # whom no one could revoke
     ({"sub": "a" * 1001}, "sub has more than 1,000 characters"),
     ({"jti": "a" * 1001}, "jti has more than 1,000 characters")],
)  # fmt: skip
def test_times_and_names_that_are_none(keyed: Serve, change: dict[str, Any], detail: str) -> None:
    """A 401 that names the claim."""
    token = by_hand({"alg": "HS256"}, json.dumps(claims(**change)).encode(), SECRET.encode())
    assert_refused(keyed, token, "bad_claim", f"the token's claim {detail}")


@pytest.mark.anyio
@pytest.mark.parametrize("key", [SECRET, EC], ids=["HS256", "ES256"])
async def test_a_token_has_one_name(key: Any) -> None:
    """Whoever can write a signature in another way can't give a token without `jti` a name that was not revoked."""
    algorithm = "HS256" if key is SECRET else "ES256"
    tokens = Tokens([secret_key(SECRET), Key(EC.public_key(), frozenset({"ES256"}))])
    token = jwt.encode(claims(), key, algorithm)
    name = (await tokens.verify(token)).token
    for changed in (f"{token}=", f"{token}==", f"{token}!", f"{token}=; Domain=evil.example"):
        with pytest.raises(Denied, match="no JSON Web Token"):
            await tokens.verify(changed)
    if algorithm == "ES256":
        signed, _, signature = token.rpartition(".")
        raw = base64.urlsafe_b64decode(f"{signature}==")
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        other = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)  # (r, n - s) verifies as (r, s) does
        assert (await tokens.verify(f"{signed}.{b64(other)}")).token == name


@pytest.mark.parametrize(
    "text",
    ["x", ".", "..", "a.b", "a.b.c.d", "{}.{}.{}", f"{b64(b'[]')}.{b64(b'{}')}.x", "a" * 20_000,
     f"{'a.' * 5000}a", f"{b64(b'{' * 3000)}.x.y"],
)  # fmt: skip
def test_what_is_no_token(keyed: Serve, text: str) -> None:
    """A 401 that says so."""
    answer = answer_to(keyed, text)
    assert (answer.status_code, answer.json()["reason"]) == (401, "malformed")


def test_claims_that_are_no_object(keyed: Serve) -> None:
    """Signed well or not."""
    for raw in (b"[]", b"5", b"null", b"\xff", b"", b"[" * 3000, b'{"sub": "a", "sub"'):
        answer = answer_to(keyed, by_hand({"alg": "HS256"}, raw, SECRET.encode()))
        assert (answer.status_code, answer.json()["reason"]) == (401, "malformed")


@pytest.mark.parametrize("value", ["Bearer", "Basic YTpi", "Token x", "", "bearer\tx", "x"])
def test_a_header_of_another_form(keyed: Serve, value: str) -> None:
    """A 401 that shows the form; the scheme's case does not matter."""
    answer = CLIENT.get(f"{keyed.url}/channels/room.1/events", headers={"authorization": value})
    assert (answer.status_code, answer.json()["reason"]) == (401, "malformed")
    token = jwt.encode(claims(), SECRET)
    url = f"{keyed.url}/channels/room.1/events"
    assert CLIENT.get(url, headers={"authorization": f"bearer  {token}"}).status_code == 200
    two = [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")]
    assert CLIENT.get(url, headers=two).json()["reason"] == "malformed"


@pytest.mark.slow
def test_keys_that_a_server_refuses_to_start_with(tmp_path: Path) -> None:
    """With a sentence that names the setting and what is wrong; the secret is never shown."""
    weak = rsa.generate_private_key(65537, 1024)
    private = ED.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files = {"weak": pem(weak), "private": private.decode(), "text": "hello", "json": "{}", "keys": '{"keys": []}'}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for flags, says in (
        (("--jwt-key", "weak"), "1024 bits"),
        (("--jwt-key", "private"), "private key"),
        (("--jwt-key", "text"), "no public key"),
        (("--jwt-key", "json"), "no key"),
        (("--jwt-key", "keys"), "no key"),
        (("--jwt-key", "missing"), "no such file"),
        (("--jwt-secret", pem(RSA)), "--jwt-key"),
        (("--jwks-url", "file:///etc/passwd"), "http"),
        (("--jwt-secret", "s", "--jwt-algorithm", "HS999"), "algorithm"),
    ):
        done = run_newswire("serve", *flags, "--show-config", folder=tmp_path)
        assert done.returncode == 1
        assert says in done.stderr.decode()
        assert "BEGIN PUBLIC KEY" not in done.stderr.decode()
    shown = run_newswire("serve", "--jwt-secret", SECRET, "--show-config", folder=tmp_path).stdout.decode()
    assert SECRET not in shown
    assert "(set)" in shown


@pytest.mark.anyio
async def test_what_is_remembered_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was good a moment ago is judged by the clock each time."""
    tokens = Tokens([secret_key(SECRET)])
    now = time.time()
    token = jwt.encode(claims(exp=int(now) + 600), SECRET)
    assert (await tokens.verify(token)).subject == "ada"
    monkeypatch.setattr(time, "time", lambda: now + 700)
    with pytest.raises(Denied, match="has expired"):
        await tokens.verify(token)


@pytest.mark.anyio
@pytest.mark.parametrize(("ahead", "leeway"), [(20, 30.0), (-1, 0.0)])
async def test_an_issuer_whose_clock_is_ahead_saves_no_token(ahead: float, leeway: float) -> None:
    """Within the leeway; a token whose time lies later than that is good."""
    now = time.time()
    tokens = Tokens([secret_key(SECRET)], leeway=leeway)
    access = await tokens.verify(jwt.encode(claims(iat=now + ahead, exp=int(now) + 600), SECRET))
    assert Revoked(at=now, subject="ada").concerns(access)
    assert not Revoked(at=now + ahead - leeway - 1, subject="ada").concerns(access)


def test_a_jwk_set_of_a_file(tmp_path: Path) -> None:
    """Secrets and public keys by their ids; a key for encrypting, a private one and an unknown kind are left out."""
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key()))
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC))
    keys = [
        {"kty": "oct", "kid": "s", "alg": "HS512", "k": b64(SECRET.encode())},
        {**public, "kid": "e"},
        {**public, "kid": "enc", "use": "enc"},
        {**public, "kid": "wrong", "alg": "RS256"},
        {**private, "kid": "private"},
        {"kty": "strange"},
        "nonsense",
    ]
    (tmp_path / "set.json").write_text(json.dumps({"keys": keys}))
    found = read_keys(tmp_path / "set.json")
    assert [(key.id, sorted(key.algorithms)) for key in found] == [("s", ["HS512"]), ("e", ["ES256"])]
    assert new_token(SECRET, subject="ada", algorithm="HS512")


@pytest.mark.parametrize("subject", ["", "a" * 1001, "\udcff"])
def test_tokens_and_keys_name_users_who_can_be_revoked(subject: str) -> None:
    """What the server would refuse is not made."""
    with pytest.raises(ValueError, match="a subject"):
        new_token(SECRET, subject=subject)
    with pytest.raises(ValueError, match="a subject"):
        new_key(subject)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"keys": SECRET}, "keys is a list, not "),
        ({"keys": [SECRET]}, "each of `keys` is a Key, not "),
        ({"url": "https://id.example/keys"}, "url is a JwksUrl, not "),
        ({"audiences": "news"}, "audiences is a list, not 'news'"),
        ({"algorithms": "HS256"}, "algorithms is a list, not 'HS256'"),
        ({"issuer": 3}, "issuer is a str, not 3"),
        ({"leeway": "3"}, "leeway is a number of seconds, not '3'"),
    ],
)
def test_what_verifies_nothing(given: dict[str, Any], text: str) -> None:
    """A text alone is no list: an audience would be any of its letters."""
    with pytest.raises((TypeError, ValueError), match="^" + text):
        Tokens(**given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"secret": 1234567}, "a secret is a str, not int"),
        ({"subject": 42}, "subject is a str, not 42"),
        ({"admin": "no"}, "admin is True or False, not 'no'"),
        ({"ttl": "1h"}, "ttl is a number of seconds, not '1h'"),
        ({"algorithm": "RS256"}, "algorithm is HS256, HS384, HS512, not 'RS256': a secret signs"),
    ],
)
def test_what_makes_no_token(given: dict[str, Any], text: str) -> None:
    """A text is no flag: `no` would make an admin."""
    with pytest.raises((TypeError, ValueError)) as caught:
        new_token(**{"secret": SECRET, "subject": "ada", **given})
    assert str(caught.value) == text


def test_one_pattern_is_one() -> None:
    """And no list of its characters."""
    token = new_token(SECRET, subject="ada", subscribe="room.1")
    assert jwt.decode(token, SECRET, ["HS256"])["subscribe"] == ["room.1"]


def test_what_decides_nothing() -> None:
    """`Auth` takes a hub, and what verifies."""
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"hub": "memory://"}, "hub is a Hub, not 'memory://'"),
        ({"tokens": SECRET}, "tokens is a Tokens, not "),
        ({"keys": "keys.json"}, "keys is an ApiKeys, not 'keys.json'"),
        ({"anonymous": "public.>"}, "anonymous is a list, not 'public.>'"),
        ({"secret": b"hush"}, "secret is a str, not bytes"),
    ]
    for given, text in mistakes:
        with pytest.raises(TypeError, match="^" + text):
            Auth(**{"hub": Hub(), **given})
