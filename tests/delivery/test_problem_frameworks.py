"""A problem that a route of a framework raises is its answer, without a handler."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import litestar
import litestar.testing
import pytest
import quart
from aiohttp import test_utils, web
from fastapi import FastAPI, Request
from flask import Flask, request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from newswire.delivery.problem import CONTENT_TYPE, Problem, unavailable
from newswire.errors import InvalidChannel, LogUnavailable
from newswire.integrations import flask
from newswire.integrations import quart as newswire_quart
from newswire.integrations.aiohttp import problems
from newswire.integrations.fastapi import problems as fastapi_problems
from newswire.integrations.litestar import problems as litestar_problems
from newswire.integrations.starlette import problems as starlette_problems
from newswire.server.auth import Denied

pytestmark = pytest.mark.anyio
CHALLENGE = 'Bearer realm="newswire"'
CODES = [(401, "unauthenticated"), (400, "invalid_channel"), (503, "log_unavailable")]


def denied() -> Denied:
    return Denied("give a tokén", authenticate=CHALLENGE, reason="missing")


def check_whole(status: int, headers: Any, body: Any) -> None:
    """Also what only programs read."""
    assert (status, headers["content-type"], headers["www-authenticate"]) == (
        401,
        "application/problem+json",
        CHALLENGE,
    )
    assert body["code"] == "unauthenticated"
    assert (body["detail"], body["reason"]) == ("give a tokén", "missing")


def test_starlette() -> None:
    """The whole object; handlers of the application's own come first."""

    async def route(request: Request) -> Response:
        raise denied()

    async def mine(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"mine: {error}", 418)

    with TestClient(Starlette(routes=[Route("/", route)])) as client:
        answer = client.get("/")
        check_whole(answer.status_code, answer.headers, answer.json())
    with TestClient(Starlette(routes=[Route("/", route)], exception_handlers={Denied: mine})) as client:
        assert (client.get("/").status_code, client.get("/").text) == (418, "mine: give a tokén")


def test_fastapi() -> None:
    """The status, the headers and the text, in FastAPI's form."""
    app = FastAPI()

    @app.get("/")
    async def route() -> None:
        raise denied()

    with TestClient(app) as client:
        answer = client.get("/")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, CHALLENGE)
    assert answer.json() == {"detail": "give a tokén"}


def test_litestar() -> None:
    """The same in Litestar's form."""

    @litestar.get("/")
    async def route() -> None:
        raise denied()

    with litestar.testing.TestClient(litestar.Litestar([route])) as client:
        answer = client.get("/")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, CHALLENGE)
    assert answer.json()["detail"] == "give a tokén"


def errors_of(path: str) -> Exception:
    errors = {"/": denied(), "/name": InvalidChannel("a b", "no"), "/away": LogUnavailable("away")}
    return errors[path]


def check_all(client: Any) -> None:
    """Each kind of error, with a HEAD request too."""
    answer = client.get("/")
    check_whole(answer.status_code, answer.headers, answer.json())
    assert answer.json().keys() == denied().members().keys()
    name, away = client.get("/name"), client.get("/away")
    assert (name.status_code, name.json()["code"], name.json()["field"]) == (400, "invalid_channel", "channel")
    assert (away.status_code, away.json()["code"], away.headers["content-type"]) == (
        503,
        "log_unavailable",
        CONTENT_TYPE,
    )
    assert int(away.headers["retry-after"]) > 0
    assert away.headers.get_list("content-type") == [CONTENT_TYPE]
    assert (client.head("/").status_code, client.head("/").content) == (401, b"")


def test_starlette_with_the_line() -> None:
    """The whole object, of all that newswire raises."""

    async def route(request: Request) -> Response:
        raise errors_of(request.url.path)

    app = Starlette(routes=[Route("/{rest:path}", route)], exception_handlers=starlette_problems)
    with TestClient(app) as client:
        check_all(client)


def test_fastapi_with_the_line() -> None:
    """The same."""
    app = FastAPI(exception_handlers=fastapi_problems)

    @app.api_route("/{rest:path}", methods=["GET", "HEAD"])
    async def route(request: Request) -> None:
        raise errors_of(request.url.path)

    with TestClient(app) as client:
        check_all(client)


def test_litestar_with_the_line() -> None:
    """The same."""

    @litestar.route(["/", "/name", "/away"], http_method=["GET", "HEAD"])
    async def route(request: litestar.Request[Any, Any, Any]) -> None:
        raise errors_of(request.url.path)

    app = litestar.Litestar([route], exception_handlers=litestar_problems)
    with litestar.testing.TestClient(app) as client:
        check_all(client)


def test_flask() -> None:
    """The whole object."""
    app = Flask("problems")

    @app.get("/")
    def route() -> str:
        raise denied()

    answer = app.test_client().get("/")
    check_whole(answer.status_code, answer.headers, answer.json)


def test_flask_with_the_line() -> None:
    """The whole object, of all that newswire raises."""
    app = Flask("problems")
    flask.answer_problems(app)

    @app.get("/")
    @app.get("/name")
    @app.get("/away")
    def route() -> str:
        raise errors_of(request.path)

    client = app.test_client()
    found = [client.get(path) for path in ("/", "/name", "/away")]
    check_whole(found[0].status_code, found[0].headers, found[0].json)
    assert [(answer.status_code, answer.json["code"]) for answer in found] == CODES  # type: ignore[index]
    assert [answer.headers.getlist("content-type") for answer in found] == [[CONTENT_TYPE]] * 3
    assert client.head("/").data == b""


async def test_quart_with_the_line() -> None:
    """The same."""
    app = quart.Quart("problems")
    newswire_quart.answer_problems(app)

    @app.get("/")
    @app.get("/name")
    @app.get("/away")
    async def route() -> str:
        raise errors_of(quart.request.path)

    client = app.test_client()
    found = [await client.get(path) for path in ("/", "/name", "/away")]
    check_whole(found[0].status_code, found[0].headers, await found[0].json)
    assert [(answer.status_code, (await answer.json)["code"]) for answer in found] == CODES
    assert [answer.headers.getlist("content-type") for answer in found] == [[CONTENT_TYPE]] * 3


async def test_quart() -> None:
    """The same."""
    app = quart.Quart("problems")

    @app.get("/")
    async def route() -> str:
        raise denied()

    answer = await app.test_client().get("/")
    check_whole(answer.status_code, answer.headers, await answer.json)


async def test_aiohttp() -> None:
    """By its middleware, with every error of newswire's."""

    async def route(request: web.Request) -> web.Response:
        raise denied() if request.path == "/" else LogUnavailable("away")

    app = web.Application(middlewares=[problems])
    app.router.add_get("/", route)
    app.router.add_get("/away", route)
    async with test_utils.TestClient(test_utils.TestServer(app)) as client:
        answer = await client.get("/")
        check_whole(answer.status, answer.headers, await answer.json(content_type=CONTENT_TYPE))
        away = await client.get("/away")
        assert (away.status, away.headers["content-type"]) == (503, CONTENT_TYPE)
        assert int(away.headers["retry-after"]) > 0


DJANGO = """
import asyncio, json
from django.conf import settings
settings.configure(ROOT_URLCONF="__main__", MIDDLEWARE=["newswire.integrations.django.ProblemMiddleware"],
                   ALLOWED_HOSTS=["*"])
import django
django.setup()
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from newswire.errors import LogUnavailable
from newswire.server.auth import Denied

def error(request):
    return LogUnavailable("away") if "away" in request.path else Denied("no", authenticate="Bearer")
def view(request):
    raise error(request)
async def async_view(request):
    raise error(request)
def bug(request):
    raise ValueError("of the application's own")

urlpatterns = [path("sync/", view), path("async/", async_view), path("sync/away", view), path("bug", bug)]
for address in ("/sync/", "/async/"):
    for answer in (Client().get(address), asyncio.run(AsyncClient().get(address))):
        assert (answer.status_code, answer["www-authenticate"]) == (401, "Bearer"), answer
        assert answer["content-type"] == "application/problem+json", answer
        assert json.loads(answer.content)["code"] == "unauthenticated"
assert Client().get("/sync/away").status_code == 503
assert Client(raise_request_exception=False).get("/bug").status_code == 500
"""


@pytest.mark.slow
def test_django() -> None:
    """By its middleware, in views of both kinds."""
    done = subprocess.run([sys.executable, "-c", DJANGO], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_it_stays_what_it_is() -> None:
    """Its text, class and attributes, whatever frameworks are in use."""
    error = denied()
    assert isinstance(error, Denied)
    assert (str(error), error.detail, error.status, error.code) == (
        "give a tokén",
        "give a tokén",
        401,
        "unauthenticated",
    )
    assert type(error).__name__ == "Denied"
    assert isinstance(unavailable("later"), Problem)
    assert unavailable("later").status_code == 503
