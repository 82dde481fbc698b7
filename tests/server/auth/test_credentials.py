"""Browsers: cookies that pages of others make them send (CSRF), and which pages may read what (CORS)."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from tests.fixtures.serve import Reader, Serve
from tests.server.auth.conftest import CLIENT, SECRET, bearer

from newswire.server import Settings, create_app
from newswire.server.auth import new_token

APP, EVIL = "https://app.example", "https://evil.example"
COOKIE = {"cookie": f"__Host-newswire={new_token(SECRET, subject='ada', subscribe=['>'], publish=['>'])}"}
TOKEN = bearer("ada", subscribe=[">"], publish=[">"])


@pytest.fixture(scope="module", params=["none", APP, "*"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serve, str]]:
    """A server, and which origins are configured."""
    flags = ("--jwt-secret", SECRET, "--anonymous", "public", "--cors-origin", request.param)
    with Serve(tmp_path_factory.mktemp("cors"), *flags) as server:
        yield server, request.param


def of_page(server: Serve, origin: str | None, site: str | None) -> dict[str, str]:
    """The headers of a page."""
    headers = {} if site is None else {"sec-fetch-site": site}
    return headers | ({} if origin is None else {"origin": server.url if origin == "own" else origin})


PAGES = [
    # origin, Sec-Fetch-Site, who may publish with a cookie: always, or if it is configured by name, or never
    ("own", "same-origin", "always"),
    ("own", None, "always"),  # a browser that does not trust the connection sends no Sec-Fetch-Site
    (None, "same-origin", "always"),
    (APP, "cross-site", "configured"),
    (APP, "same-site", "configured"),
    (APP, None, "configured"),
    (EVIL, "cross-site", "never"),
    (EVIL, "same-site", "never"),
    (EVIL, None, "never"),
    ("null", "cross-site", "never"),
    ("null", None, "never"),
    (None, "cross-site", "never"),
    (None, "none", "never"),
    (None, None, "never"),  # nothing shows which page it was
    ("https://app.example.evil.example", "cross-site", "never"),
    ("http://app.example", "cross-site", "never"),  # another scheme is another origin
    ("https://app.example:444", "cross-site", "never"),
]


@pytest.mark.parametrize(("origin", "site", "may"), PAGES)
def test_csrf(either: tuple[Serve, str], origin: str | None, site: str | None, may: str) -> None:
    """With a cookie: 200 or a 403 `foreign_origin`, and nothing is stored. `*` names no page."""
    server, configured = either
    url, headers = f"{server.url}/channels/csrf", of_page(server, origin, site)
    before = len(CLIENT.get(f"{url}/events?limit=1000", headers=TOKEN).json()["events"])
    good = may == "always" or (may == "configured" and configured == APP)
    for method, path in (("POST", "/channels/csrf"), ("POST", "/tickets"), ("POST", "/revoke")):
        body = b'{"subject": "no such user"}' if path == "/revoke" else b'{"channels": ["a"]}'
        answer = CLIENT.request(method, server.url + path, content=body, headers=headers | COOKIE)
        if good:
            assert answer.status_code == {"/channels/csrf": 200, "/tickets": 201, "/revoke": 403}[path]
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    after = len(CLIENT.get(f"{url}/events?limit=1000", headers=TOKEN).json()["events"])
    assert after - before == (1 if good else 0)


@pytest.mark.parametrize("origin", ["own", APP, EVIL, "null"])
def test_the_cors_matrix(either: tuple[Serve, str], origin: str) -> None:
    """Which page may read an answer, with and without credentials, and what it may send."""
    server, configured = either
    headers = of_page(server, origin, None)
    named, everyone = configured == APP and origin == APP, configured == "*" and origin != "own"
    expected = {
        "access-control-allow-origin": origin if named else "*" if everyone else None,
        "access-control-allow-credentials": "true" if named else None,
    }

    def shown(answer: httpx2.Response) -> dict[str, str | None]:
        return {name: answer.headers.get(name) for name in expected}

    for path, more in (("/channels/public/events", {}), ("/channels/a/events", TOKEN), ("/channels/a/events", {})):
        answer = CLIENT.get(server.url + path, headers=headers | more)
        assert answer.status_code == (200 if more or "public" in path else 401)
        assert shown(answer) == expected
        assert ("Origin" in answer.headers.get("vary", "")) == named
    with Reader(f"{server.url}/channels/public", headers) as reader:
        assert {name: reader.answer.headers.get(name) for name in expected} == expected
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    preflight = CLIENT.options(f"{server.url}/channels/a", headers=headers | asked)
    assert preflight.status_code == (204 if named or everyone else 405 if origin == "own" else 403)
    assert shown(preflight) == expected
    if named or everyone:
        assert preflight.headers["access-control-allow-methods"] == "GET, HEAD, POST, DELETE"
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        refused = CLIENT.get(f"{server.url}/channels/a", headers=headers)
        exposed = refused.headers["access-control-expose-headers"].lower().split(", ")
        assert {"retry-after", "date", "www-authenticate"} <= {*exposed}
    posted = CLIENT.post(f"{server.url}/channels/cors", content="x", headers=headers | TOKEN)
    assert posted.status_code == (200 if named or everyone or origin == "own" else 403)


def test_pages_may_send_every_method_that_there_is() -> None:
    """To sign out, too: what no preflight names, no page of another origin can send."""
    app = create_app(Settings(log="memory://", jwt_secret="x" * 32))
    methods = {method for route in app.routes for method in getattr(route, "methods", None) or ()}
    assert {*app.state.service.grants.methods.split(", ")} == methods


def test_a_form_of_another_page(either: tuple[Serve, str]) -> None:
    """What a form can send without a preflight: refused, whatever its type."""
    server, _ = either
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        page = {"origin": EVIL, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "content-type": kind}
        answer = CLIENT.post(f"{server.url}/channels/form", content="a=b", headers=page | COOKIE)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")


def test_another_cookie_is_none(either: tuple[Serve, str]) -> None:
    """Only the cookie of that very name counts, which no other host of the domain can set."""
    server, _ = either
    value = COOKIE["cookie"].partition("=")[2]
    for name in ("newswire", "__Secure-newswire", "__host-newswire", "__Host-newswire-x", "__Host-newswire2"):
        answer = CLIENT.get(f"{server.url}/channels/a/events", headers={"cookie": f"{name}={value}"})
        assert (answer.status_code, answer.json()["reason"]) == (401, "missing")
