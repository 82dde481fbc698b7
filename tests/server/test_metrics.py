"""The numbers of `newswire serve`, and whose requests may read them."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.prometheus import value
from tests.fixtures.serve import PATIENCE, Reader, Serve

from newswire.server import Settings, create_app
from newswire.server.auth import new_token
from newswire.testing import asgi_client

SECRET = "a secret of sixty-four bytes, which is as long as HS512 wants it to be"


def bearer(**more: object) -> dict[str, str]:
    return {"authorization": f"Bearer {new_token(SECRET, **more)}"}  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_requests_for_streams_by_what_came_of_them() -> None:
    """Opened, refused for the credential, for the request, for a limit; HEAD opens none."""
    settings = Settings(log="memory://", jwt_secret=SECRET, max_streams_per_subject=1, metrics_token="m")
    app = create_app(settings)
    async with app.router.lifespan_context(app), asgi_client(app, base_url="http://localhost") as client:
        ada = bearer(subject="ada", subscribe=["news"])
        async with client.stream("GET", "/channels/news", headers=ada) as stream:
            assert stream.status_code == 200
            for path, headers, status in (
                ("/channels/news", ada, 429),
                ("/stream?channel=news", {}, 401),
                ("/channels/other", ada, 403),
                ("/stream", ada, 400),
            ):
                assert (await client.get(path, headers=headers)).status_code == status
            assert (await client.head("/channels/news", headers=ada)).status_code == 200
            text = (await client.get("/metrics", headers={"authorization": "Bearer m"})).text
    counts = {"opened": 1, "denied": 2, "invalid": 1, "limited": 1, "unavailable": 0, "failed": 0}
    for outcome, count in counts.items():
        assert value(text, "newswire_connects_total", outcome=outcome) == count, outcome


@pytest.mark.anyio
async def test_metrics_are_for_those_who_may_read_them() -> None:
    """Admins and the holder of the metrics token; others get a 401 or a 403 that says what is missing."""
    app = create_app(Settings(log="memory://", jwt_secret=SECRET, metrics_token="a scraper's"))
    async with app.router.lifespan_context(app), asgi_client(app, base_url="http://localhost") as client:
        for headers, status in (
            ({"authorization": "Bearer a scraper's"}, 200),
            (bearer(subject="root", admin=True), 200),
            ({}, 401),
            ({"authorization": "Bearer another"}, 401),
            (bearer(subject="ada", subscribe=[">"]), 403),
        ):
            answer = await client.get("/metrics", headers=headers)
            assert answer.status_code == status, answer.text
            if status != 200:
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert "newswire_" not in answer.text


@pytest.mark.anyio
@pytest.mark.parametrize("token", [None, "m"])
async def test_a_server_for_everyone_may_have_a_metrics_token(token: str | None) -> None:
    """Without one, everyone reads the metrics; with one, no one else does, and the answer says what to send."""
    app = create_app(Settings(log="memory://", metrics_token=token))
    async with app.router.lifespan_context(app), asgi_client(app, base_url="http://localhost") as client:
        answer = await client.get("/metrics")
        assert answer.status_code == (200 if token is None else 401)
        if token is not None:
            assert "--metrics-token" in answer.json()["detail"]
            wrong = await client.get("/metrics", headers={"authorization": "Bearer x"})
            assert "not the metrics token" in wrong.json()["detail"]
            assert (await client.get("/metrics", headers={"authorization": "bearer m"})).status_code == 200


def test_the_metrics_of_all_workers(tmp_path: Path) -> None:
    """Whichever worker answers: streams, what they got and how they ended."""
    with Serve(tmp_path, "--workers", "2") as server:
        readers = [Reader(f"{server.url}/channels/news") for _ in range(4)]
        for reader in readers:
            reader.opened()
        server.publish("news", "x")
        for reader in readers:
            reader.read(1)
        readers[0].__exit__()
        deadline = time.monotonic() + PATIENCE
        while True:  # workers tell their numbers some times a second
            text = httpx2.get(f"{server.url}/metrics").text
            ended = value(text, "newswire_stream_ends_total", reason="client")
            lag = value(text, "newswire_event_loop_lag_seconds_count")
            if ended and lag and (value(text, "newswire_subscribers"), value(text, "newswire_workers")) == (3, 2):
                break
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        assert value(text, "newswire_connects_total", outcome="opened") == 4
        assert value(text, "newswire_resumes_total", kind="new") == 4
        assert value(text, "newswire_delivered_total") == 4
        assert value(text, "newswire_stream_bytes_total") > 4 * len("data: x\n\n")
        assert value(text, "newswire_log_append_seconds_count") >= 1
        for reader in readers[1:]:
            reader.__exit__()
