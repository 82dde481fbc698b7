"""The cursor of a request, whatever framework the request is of."""

from __future__ import annotations

from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from newswire import EventSourceResponse, last_event_id


def asgi(header: str | None, query: str) -> dict[str, Any]:
    """An ASGI scope."""
    headers = [] if header is None else [(b"last-event-id", header.encode())]
    return {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": query.encode()}


def environ(header: str | None, query: str) -> dict[str, Any]:
    """A WSGI environ (PEP 3333): header values are Latin-1 texts of their bytes."""
    found: dict[str, Any] = {"QUERY_STRING": query}
    setup_testing_defaults(found)
    if header is not None:
        found["HTTP_LAST_EVENT_ID"] = header.encode().decode("latin-1")
    return found


class Flask:
    """What Flask's and Werkzeug's requests have."""

    def __init__(self, header: str | None, query: str) -> None:
        self.environ = environ(header, query)


class Django:
    """What Django's requests have under WSGI."""

    def __init__(self, header: str | None, query: str) -> None:
        self.META = environ(header, query)


def aiohttp(header: str | None, query: str) -> Any:
    """A request of aiohttp's server."""
    headers = {} if header is None else {"Last-Event-ID": header}
    return make_mocked_request("GET", f"/?{query}", headers=headers)


KINDS = [asgi, lambda *of: Request(asgi(*of)), environ, Flask, Django, aiohttp]


@pytest.mark.parametrize("make", KINDS)
def test_a_cursor_is_read_from_any_request(make: Any) -> None:
    """The header first, then the query in any spelling; nothing gives None."""
    assert last_event_id(make("abc-1", "last_event_id=abc-2")) == "abc-1"
    assert last_event_id(make(None, "x=1&lastEventId=abc-2")) == "abc-2"
    assert last_event_id(make("é-1", "")) == "é-1"
    assert last_event_id(make(None, "")) is None
    assert last_event_id(make("", "last_event_id=abc-2")) is None


@given(st.binary(max_size=600), st.binary(max_size=600))
def test_any_bytes_are_a_cursor(header: bytes, query: bytes) -> None:
    """A client whose cursor is refused is lost for good, so nothing that it sends raises."""
    scope = {"type": "http", "headers": [(b"Last-Event-ID", header)], "query_string": query}
    assert isinstance(last_event_id(scope), str | None)
    assert isinstance(last_event_id({**scope, "headers": []}), str | None)
    latin = {"HTTP_LAST_EVENT_ID": header.decode("latin-1"), "QUERY_STRING": query.decode("latin-1")}
    assert last_event_id(latin) == last_event_id(scope)


def test_what_is_no_request_is_refused_in_words() -> None:
    """And so is a response where it can't be one."""
    with pytest.raises(TypeError, match="Last-Event-ID header"):
        last_event_id("abc-1")
    with pytest.raises(TypeError, match=r"In Django: `return await stream\(request, hub.subscribe"):
        EventSourceResponse([]).render()
