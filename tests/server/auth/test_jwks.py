"""Keys at a URL: rotation, a provider that is away, and strangers who name keys that never were."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.fixtures.proxies import make_certificate
from tests.fixtures.serve import Serve
from tests.server.auth.conftest import CLIENT

from newswire.server.auth import Denied, JwksUrl, Tokens, jwks, new_token
from newswire.server.auth.keys import RSA, Key

KEYS = {name: rsa.generate_private_key(65537, 2048) for name in ("one", "two")}


class Provider:
    """An identity provider that publishes some of the keys.

    Attributes:
        published: their names.
        status: of its answers.
        body: what it answers instead of the keys; None: the keys.
        hold: its answers wait for this, if it is set.
        location: where it redirects from `/keys`; None: it does not.
        asked: how many requests came.
    """

    def __init__(self) -> None:
        self.published: list[str] = ["one"]
        self.extra: list[Any] = []
        self.status = 200
        self.body: bytes | None = None
        self.hold: threading.Event | None = None
        self.location: str | None = None
        self.asked = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                if provider.hold is not None:
                    provider.hold.wait(30)
                body = json.dumps({"keys": provider.keys()}).encode() if provider.body is None else provider.body
                away = provider.location is not None and self.path == "/keys"
                self.send_response(302 if away else provider.status)
                if away:
                    self.send_header("location", provider.location or "")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/keys"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def serve_over(self, context: ssl.SSLContext) -> str:
        """Speak TLS from now on. Returns the URL."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http://", "https://")
        return self.url

    def keys(self) -> list[Any]:
        """What it publishes now."""
        made = [
            json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEYS[name].public_key())) | {"kid": name, "use": "sig"}
            for name in self.published
        ]
        return made + self.extra

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


def token(name: str, kid: str | None = "", **more: Any) -> str:
    """A token of one of the keys."""
    claims = {"sub": "ada", "subscribe": [">"], "exp": int(time.time()) + 600, **more}
    return jwt.encode(claims, KEYS[name], "RS256", headers={} if kid is None else {"kid": kid or name})


def get(server: Serve, token: str) -> httpx2.Response:
    """What a token gets."""
    return CLIENT.get(f"{server.url}/channels/a/events", headers={"authorization": f"Bearer {token}"})


def test_rotation(provider: Provider, tmp_path: Path) -> None:
    """A new key is found at once, without a restart; an old one is good as long as it is published."""
    with Serve(tmp_path, "--jwks-url", provider.url) as server:
        assert get(server, token("one")).status_code == 200
        assert get(server, token("two", "one")).json()["reason"] == "bad_signature"
        assert provider.asked == 1
        provider.published = ["one", "two"]
        assert get(server, token("two")).status_code == 200
        assert get(server, token("one")).status_code == 200
        assert get(server, token("two", None)).status_code == 200  # without a `kid`, each is tried
        provider.published = ["two"]
        assert get(server, token("two", "three")).json()["reason"] == "unknown_key"  # made it look again
        assert get(server, token("one")).json()["reason"] == "unknown_key"
        assert get(server, token("two")).status_code == 200
        assert provider.asked <= 5


@pytest.mark.anyio
@pytest.mark.parametrize("kid", ["two", None])
async def test_rotation_beside_keys_that_might_fit(provider: Provider, kid: str | None) -> None:
    """Also where a key without a name is tried for every token: one of a file, or one that the provider publishes."""
    beside = Key(rsa.generate_private_key(65537, 2048).public_key(), RSA)
    tokens = Tokens([beside], url=JwksUrl(provider.url))
    assert (await tokens.verify(token("one", None))).subject == "ada"
    provider.published, provider.extra = [], [provider.keys()[0] | {"kid": None}]
    provider.published.append("two")
    assert (await tokens.verify(token("two", kid))).subject == "ada"
    assert provider.asked == 2


@pytest.mark.anyio
async def test_a_redirect_that_leaves_https(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody on the way could publish keys then. Within https, and from http, redirects are followed."""
    certificate, key = make_certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure = Provider()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    url = secure.serve_over(context)
    try:
        secure.location = provider.url
        assert await JwksUrl(url).refresh() is not None
        assert provider.asked == 0
        assert "which is not encrypted" in caplog.text
        secure.location = f"{url}/there"
        assert await JwksUrl(url).refresh() is None
        provider.location = f"{url}/there"
        assert await JwksUrl(provider.url).refresh() is None
    finally:
        secure.close()


@pytest.mark.slow
def test_strangers_can_not_make_it_ask(provider: Provider, tmp_path: Path) -> None:
    """A hundred keys that never were cost the provider a handful of requests."""
    with Serve(tmp_path, "--jwks-url", provider.url) as server:
        assert get(server, token("one")).status_code == 200
        for number in range(100):
            assert get(server, token("two", f"made-up-{number}")).status_code == 401
        assert provider.asked <= 8
        assert get(server, token("one")).status_code == 200


@pytest.mark.slow
def test_a_provider_that_is_away(provider: Provider, tmp_path: Path) -> None:
    """Without keys a 503 that says when to come back; with keys they go on."""
    provider.status = 500
    secret = "a secret of thirty-two bytes, or more"
    flags = ("--jwks-url", provider.url, "--anonymous", "public", "--jwt-secret", secret)
    with Serve(tmp_path, *flags) as server:
        answer = get(server, token("one"))
        assert (answer.status_code, answer.json()["code"]) == (503, "keys_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert CLIENT.get(f"{server.url}/channels/public/events").status_code == 200
        assert get(server, new_token(secret, subject="ada", subscribe=["a"])).status_code == 200
        provider.status = 200
        deadline = time.monotonic() + 30
        while get(server, token("one")).status_code == 503:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        provider.status = 500
        assert get(server, token("two")).status_code == 401
        assert get(server, token("one")).status_code == 200


def test_a_secret_that_is_published_is_none(provider: Provider, tmp_path: Path) -> None:
    """A JWK Set at a URL may have a symmetric key by mistake: no token that it signs is good."""
    provider.extra = [{"kty": "oct", "kid": "s", "k": "c2VjcmV0", "alg": "HS256"}, {"kty": "RSA"}, 5]
    forged = jwt.encode({"sub": "ada", "subscribe": [">"]}, "secret".ljust(32, "\0"), "HS256", headers={"kid": "s"})
    with Serve(tmp_path, "--jwks-url", provider.url) as server:
        assert get(server, forged).json()["reason"] == "unknown_key"
        assert get(server, token("one")).status_code == 200


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "HS256"])
@pytest.mark.anyio
async def test_a_key_that_no_one_knows(provider: Provider, algorithm: str) -> None:
    """The answer says that it is the key, whatever the algorithm; of a key that is there, that it is the algorithm."""
    signer: Any = {"RS256": KEYS["two"], "ES256": ec.generate_private_key(ec.SECP256R1()), "HS256": "s" * 32}[algorithm]
    tokens = Tokens(url=JwksUrl(provider.url))
    for kid, reason in (
        ("three", "unknown_key"),
        ("one", "bad_signature" if algorithm == "RS256" else "wrong_algorithm"),
    ):
        with pytest.raises(Denied) as caught:
            await tokens.verify(jwt.encode({"sub": "ada"}, signer, algorithm, headers={"kid": kid}))
        assert caught.value.more["reason"] == reason
        assert "(kid)" in str(caught.value) or reason == "bad_signature"


@pytest.mark.anyio
async def test_old_keys_are_fetched_again(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """After five minutes: a key that the provider took away is then not good for tokens that are known, either."""
    monkeypatch.setattr(jwks, "_FRESH", 0.05)
    tokens = Tokens(url=JwksUrl(provider.url))
    good = token("one")
    await tokens.verify(good)
    provider.published = ["two"]
    deadline = time.monotonic() + 20
    with pytest.raises(Denied, match=r"names a key \(kid\) that this server does not know"):
        while time.monotonic() < deadline:
            await tokens.verify(good)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "says"),
    [(b" " * 600_000, "more than 524,288 bytes"), (b"<html>", "no JSON"), (b"[" * 100_000, ""), (b"\xff", "no JSON"),
     (b"[]", "no JWK Set"), (b'{"keys": []}', "no key")],
    ids=["huge", "html", "deep", "bytes", "list", "empty"],
)  # fmt: skip
async def test_an_answer_that_has_no_keys(
    provider: Provider, caplog: pytest.LogCaptureFixture, body: bytes, says: str
) -> None:
    """A 503 and a line in the log; nothing is read without end."""
    provider.body = body
    problem = await JwksUrl(provider.url).refresh()
    assert problem is not None
    assert (problem.status, problem.code) == (503, "keys_unavailable")
    assert says in caplog.text


@pytest.mark.anyio
async def test_a_server_that_speaks_no_http(caplog: pytest.LogCaptureFixture) -> None:
    """The same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        threading.Thread(target=answer, daemon=True).start()
        problem = await JwksUrl(f"http://127.0.0.1:{listener.getsockname()[1]}/keys").refresh()
    assert problem is not None
    assert "no keys came from" in caplog.text


@pytest.mark.anyio
async def test_a_head_that_never_ends_leaves_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try is given up, and what it has left behind may last; then it is not tried again."""
    monkeypatch.setattr(jwks, "_TIMEOUT", 0.02)
    monkeypatch.setattr(jwks, "_AFTER_FAILURE", 0.0)
    held = threading.Event()
    monkeypatch.setattr(jwks, "build_opener", lambda *handlers: held.wait())
    url = JwksUrl("https://provider.example/keys")
    before = threading.active_count()
    for _ in range(8):
        assert await url.refresh() is not None
    assert threading.active_count() <= before + 3
    held.set()


@pytest.mark.anyio
async def test_a_provider_that_hangs_holds_up_no_one_who_is_known(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys that are known go on while fresh ones are on their way, which one request waits for a moment."""
    monkeypatch.setattr(jwks, "_FRESH", 0.0)
    monkeypatch.setattr(jwks, "_PATIENCE", 0.01)
    tokens = Tokens(url=JwksUrl(provider.url))
    assert (await tokens.verify(token("one"))).subject == "ada"
    provider.hold = threading.Event()
    asked = provider.asked
    for _ in range(100):
        assert (await tokens.verify(token("one"))).subject == "ada"
    assert provider.asked <= asked + 1
    provider.hold.set()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "newswire fetches keys"))
