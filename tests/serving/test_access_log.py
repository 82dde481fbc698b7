"""The access log shows no ticket, token or cursor."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import httpx2
from tests.fixtures.serve import Serve

from newswire.serving.access_log import CutShort, HideSecrets


def test_on_a_server(tmp_path: Path) -> None:
    """Whatever the spelling, the value is hidden and the rest is there."""
    with Serve(tmp_path, "--access-log") as server:
        for query in (
            "ticket=SECRET", "access_token=SECRET", "token=SECRET&from=earliest", "from=earliest&tick%65t=SECRET",
            "lastEventId=SECRET", "last_event_id=SECRET", "api_key=SECRET", "X-Amz-Signature=SECRET", "jwt=SECRET",
        ):  # fmt: skip
            httpx2.head(f"{server.url}/channels/news?{query}")
        httpx2.get(f"{server.url}/channels/news/events?limit=5&after=SECRET")
        server.stop()
    said = "".join((tmp_path / name).read_text() for name in ("stderr", "stdout"))
    assert said.count('"HEAD /channels/news?') == 9
    assert said.count("=[hidden]") == 10
    assert "SECRET" not in said


def test_a_record() -> None:
    """Its other arguments stay as they are."""
    record = logging.LogRecord(
        "uvicorn.access", logging.INFO, "", 1, '%s - "%s %s HTTP/%s" %d',
        ("127.0.0.1:1", "GET", "/stream?channel=a&ticket=abc&envelope=json", "1.1", 200), None,
    )  # fmt: skip
    assert HideSecrets().filter(record)
    assert record.getMessage() == ('127.0.0.1:1 - "GET /stream?channel=a&ticket=[hidden]&envelope=json HTTP/1.1" 200')


def test_a_token_wherever_it_is() -> None:
    """In the path, or behind a second question mark, by mistake."""
    ticket = "eyJhbGciOiJIUzI1NiIsInR5cCI6Im5ld3N3aXJlLXRpY2tldCJ9.eyJqdGkiOiI2NSJ9._jZN3-fLpe"
    for target in (f"/channels/{ticket}", f"//channels/a?b=c?ticket={ticket}", f"/x?q={ticket}"):
        args = ("127.0.0.1:1", "GET", target, "1.1", 404)
        record = logging.LogRecord("uvicorn.access", logging.INFO, "", 1, '%s - "%s %s HTTP/%s" %d', args, None)
        HideSecrets().filter(record)
        assert ticket.split(".")[1] not in record.getMessage()
        assert "[hidden]" in record.getMessage()


def test_a_request_that_a_stop_cut_short() -> None:
    """It is one line; any other error keeps its traceback."""
    for error, shown in ((asyncio.CancelledError(), False), (ValueError(), True)):
        info = (type(error), error, None)
        record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 1, "Exception in ASGI application", None, info)
        assert CutShort().filter(record)
        assert (record.exc_info is not None, record.levelname == "ERROR") == (shown, shown)
        assert "when the server stopped" in record.getMessage() or shown
