"""The tree of errors: what web frameworks answer when a request raises one, and how they cross processes."""

from __future__ import annotations

import importlib
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import litestar
import litestar.testing
import pytest
from fastapi import FastAPI, Request
from flask import Flask
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from newswire import EventSourceResponse, Hub, NewswireError
from newswire.errors import InvalidChannel, InvalidEvent, InvalidPosition, LimitExceeded, RunNotFound


@pytest.mark.parametrize("framework", [FastAPI, Starlette])
@pytest.mark.parametrize("room", ["*", "%3E", "a%20b", "a%00", "x..y", "x" * 300])
def test_a_bad_name_from_a_request_is_a_400_of_one_line(framework: type[Starlette], room: str) -> None:
    """Subscribing and publishing alike, without a line in the application."""
    hub = Hub("memory://")

    async def read(request: Request) -> Response:
        return EventSourceResponse(hub.subscribe("room." + request.path_params["room"]))

    async def write(request: Request) -> Response:
        return PlainTextResponse(await hub.publish("room." + request.path_params["room"], "x"))

    path = "/rooms/{room:path}"
    app = framework(routes=[Route(path, read), Route(path, write, methods=["POST"])])
    with TestClient(app) as client:
        for answer in (client.get(f"/rooms/{room}"), client.post(f"/rooms/{room}")):
            assert answer.status_code == 400
            assert "channel" in answer.text
            assert len(answer.text.splitlines()) == 1


def test_an_applications_own_handlers_come_first() -> None:
    """Newswire's classes are what an application names in its handlers."""

    def route(request: Request) -> Response:
        raise InvalidPosition("no")

    async def handler(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"mine: {error}", 418)

    app = Starlette(routes=[Route("/", route)], exception_handlers={NewswireError: handler})
    with TestClient(app) as client:
        assert (client.get("/").status_code, client.get("/").text) == (418, "mine: no")


def test_errors_of_requests_are_answers_of_starlette() -> None:
    """And still what they are: their text, their class and their attributes."""
    error = InvalidChannel("a b", "no good")
    assert isinstance(error, HTTPException)
    assert isinstance(error, InvalidChannel)
    assert isinstance(error, ValueError)
    assert (str(error), repr(error)) == ("no good", "InvalidChannel('no good')")
    assert (error.status_code, error.detail) == (400, "no good")
    assert RunNotFound("x").status_code == 404
    assert not isinstance(InvalidEvent("data", "x"), HTTPException)


@pytest.mark.parametrize(
    ("module", "invalid", "missing"),
    [
        ("litestar.exceptions", "HTTPException", "HTTPException"),
        ("werkzeug.exceptions", "HTTPException", "HTTPException"),
        ("django.core.exceptions", "BadRequest", None),
        ("django.http.response", None, "Http404"),
    ],
)
def test_errors_of_requests_are_answers_of_other_frameworks(
    module: str, invalid: str | None, missing: str | None
) -> None:
    """Of each that is imported, with the status that it has for such an error."""
    framework = importlib.import_module(module)
    for error, name in ((InvalidChannel("a b", "no good"), invalid), (RunNotFound("x"), missing)):
        assert name is None or isinstance(error, getattr(framework, name))
        assert pickle.loads(pickle.dumps(error)).__dict__ == error.__dict__


def test_flask_and_litestar_answer_without_starlette(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status and one line of text, as in Starlette."""
    monkeypatch.delitem(sys.modules, "starlette.exceptions")
    app = Flask("bad_names")

    @app.get("/<name>")
    def flask_route(name: str) -> str:
        raise InvalidChannel(name, f"no good: <{name}>")

    @litestar.get("/{name:str}")
    async def litestar_route(request: litestar.Request[Any, Any, Any]) -> None:
        name = request.path_params["name"]
        raise InvalidChannel(name, f"no good: <{name}>")

    answer = app.test_client().get("/a b")
    assert (answer.status_code, "no good: &lt;a b&gt;" in answer.text) == (400, True)
    with litestar.testing.TestClient(litestar.Litestar([litestar_route])) as client:
        found = client.get("/a b")
    assert (found.status_code, found.json()["detail"]) == (400, "no good: <a b>")


def _fail(number: int) -> None:
    raise [InvalidChannel("a b", "no"), LimitExceeded("size", limit=1, actual=2), InvalidEvent("id", "x")][number]


@pytest.mark.slow
def test_errors_cross_processes() -> None:
    """A pool's worker raises them in its parent, attributes and all."""
    error = pickle.loads(pickle.dumps(LimitExceeded("size", limit=1, actual=2)))
    assert (type(error), error.limit, str(error)) == (LimitExceeded, 1, "size is 2 and the limit is 1")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(InvalidChannel) as caught:
            pool.submit(_fail, 0).result()
        assert caught.value.channel == "a b"
        with pytest.raises(InvalidEvent):
            pool.submit(_fail, 2).result()
