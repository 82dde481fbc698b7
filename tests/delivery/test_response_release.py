"""What a request holds is given back when a subscription's stream begins; an iterable's stream says that it stays."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
import sqlalchemy
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool
from starlette.background import BackgroundTask
from tests.fixtures.asgi_request import Client
from tests.fixtures.in_thread import uvicorn_in_thread

from newswire import EventSourceResponse, Hub
from newswire.delivery import framework
from newswire.integrations import fastapi
from newswire.integrations.fastapi import ServerSentEvent, events
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio


class Site:
    """A FastAPI application whose streams depend on a session of a pool with two connections."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.engine = sqlalchemy.create_engine(
            "sqlite://",
            poolclass=QueuePool,
            pool_size=2,
            max_overflow=0,
            connect_args={"check_same_thread": False},
        )
        self.app = FastAPI()
        self.fails: Exception | None = None

        def session() -> Iterator[Session]:
            with Session(self.engine) as session:
                session.execute(sqlalchemy.text("select 1"))
                yield session
            if self.fails is not None:
                raise self.fails

        async def async_session() -> AsyncIterator[Session]:
            with Session(self.engine) as session:
                session.execute(sqlalchemy.text("select 1"))
                yield session

        @self.app.get("/events")
        async def events(session: Annotated[Session, Depends(session)]) -> EventSourceResponse:
            return EventSourceResponse(self.hub.subscribe("news"))

        @self.app.get("/async")
        async def with_async(session: Annotated[Session, Depends(async_session)]) -> EventSourceResponse:
            return EventSourceResponse(self.hub.subscribe("news"))

        @self.app.get("/rows")
        async def rows(session: Annotated[Session, Depends(session)]) -> EventSourceResponse:
            return EventSourceResponse(self.rows(session))

        @self.app.get("/function")
        async def function(session: Annotated[Session, Depends(session, scope="function")]) -> EventSourceResponse:
            return EventSourceResponse(self.endless())

        @self.app.get("/background")
        async def background(session: Annotated[Session, Depends(session)]) -> EventSourceResponse:
            task = BackgroundTask(lambda: None)
            return EventSourceResponse(self.hub.subscribe("news"), background=task)

    async def endless(self) -> AsyncIterator[str]:
        yield "one"
        await self.hub.subscribe("never").__anext__()  # type: ignore[attr-defined]

    async def rows(self, session: Session) -> AsyncIterator[str]:
        for number in range(3):
            yield str(session.execute(sqlalchemy.text(f"select {number}")).scalar())

    @property
    def held(self) -> int:
        """Connections that are not in the pool."""
        pool = self.engine.pool
        assert isinstance(pool, QueuePool)
        return pool.checkedout()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["direct", "httptools"])
@pytest.mark.parametrize("path", ["/events", "/async"])
def test_many_streams_on_a_small_pool(protocol: str, path: str) -> None:
    """Ten open streams of a route with a database session hold no connection of a pool of two."""
    site = Site()
    with uvicorn_in_thread(site.app, protocol) as server:
        streams = [server.get(path) for _ in range(10)]
        for stream in streams:
            stream.until("id: ")
        assert site.held == 0
        for stream in streams:
            stream.connection.close()


async def begin(site: Site, path: str) -> Client:
    """Ask for a stream, whose client leaves as soon as it has begun."""
    client = Client()
    scope = {
        "type": "http",
        "method": "GET",
        "http_version": "1.1",
        "path": path,
        "query_string": b"",
        "headers": [],
        "root_path": "",
    }
    client.left.set()
    await site.app(scope, client.receive, client.send)
    return client


@pytest.mark.parametrize(("error", "status"), [(HTTPException(409), 409), (ValueError("broken"), 500)])
async def test_a_dependency_that_fails_at_its_end(error: Exception, status: int) -> None:
    """It has a status code, since nothing of the stream was sent, and the subscription is gone."""
    site = Site()
    site.fails = error
    client = Client()
    scope = {"type": "http", "method": "GET", "http_version": "1.1", "path": "/events", "query_string": b""}
    try:
        await site.app({**scope, "headers": [], "root_path": ""}, client.receive, client.send)
    except ValueError:
        assert status == 500  # Starlette raises it again, for the server's log
    assert b"text/event-stream" not in client.headers.get(b"content-type", b"")
    assert site.hub.stats().subscribers == 0
    await site.hub.close()


async def test_a_dependency_that_closes_the_subscription() -> None:
    """It ends before the stream begins, so there can't be one: an error that says so, with a status code."""
    hub = Hub()
    app = FastAPI()

    async def subscription() -> AsyncIterator[Any]:
        made = hub.subscribe("news")
        yield made
        made.close()

    @app.get("/")
    async def events(made: Annotated[Any, Depends(subscription)]) -> EventSourceResponse:
        return EventSourceResponse(made)

    client = Client()
    scope = {"type": "http", "method": "GET", "http_version": "1.1", "path": "/", "query_string": b""}
    with pytest.raises(RuntimeError, match="in the route"):
        await app({**scope, "headers": [], "root_path": ""}, client.receive, client.send)
    assert b"text/event-stream" not in client.headers[b"content-type"]
    assert hub.stats().subscribers == 0
    await hub.close()


async def test_an_iterable_keeps_its_session_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An iterable may use what its request holds, so it stays open; one warning for a process says what to do."""
    monkeypatch.setattr(framework, "_warned", False)
    site = Site()
    client = Client()
    scope = {"type": "http", "method": "GET", "http_version": "1.1", "path": "/rows", "query_string": b""}
    with caplog.at_level(logging.WARNING, "newswire"):
        for _ in range(2):
            await site.app({**scope, "headers": [], "root_path": ""}, client.receive, client.send)
    assert client.text.count("data: 2\n\n") == 2
    [warning] = caplog.records
    assert "scope='function'" in warning.getMessage()
    assert site.held == 0
    await site.hub.close()


async def test_no_warning_without_anything_held(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A dependency of function scope ends before the response, and a route may have none at all."""
    monkeypatch.setattr(framework, "_warned", False)
    site = Site()
    with caplog.at_level(logging.WARNING, "newswire"):
        await begin(site, "/function")
        await begin(site, "/events")
    assert caplog.records == []
    await site.hub.close()


async def test_a_background_task_may_use_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With a background task what the request holds stays, with the warning."""
    monkeypatch.setattr(framework, "_warned", False)
    site = Site()
    with caplog.at_level(logging.WARNING, "newswire"):
        await begin(site, "/background")
    assert len(caplog.records) == 1
    await site.hub.close()


class Checkouts:
    """Applications that hold a connection in each way there is."""

    def __init__(self) -> None:
        self.engine = sqlalchemy.create_engine(
            "sqlite://", poolclass=QueuePool, pool_size=1, connect_args={"check_same_thread": False}
        )
        self.async_engine = create_async_engine("sqlite+aiosqlite://")

    def session(self, *, used: bool = True) -> Session:
        session = Session(self.engine)
        if used:
            session.execute(sqlalchemy.text("select 1"))
        return session

    async def numbers(self, held: Any) -> AsyncIterator[str]:
        yield "1"

    async def close(self) -> None:
        self.engine.dispose()
        await self.async_engine.dispose()


@pytest.fixture
async def checkouts(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Checkouts]:
    monkeypatch.setattr(framework, "_warned", False)
    made = Checkouts()
    yield made
    await made.close()


def warnings_about_sqlalchemy(caplog: pytest.LogCaptureFixture) -> int:
    return sum("SQLAlchemy's pool checked out" in record.getMessage() for record in caplog.records)


async def test_a_connection_that_the_iterable_holds(checkouts: Checkouts, caplog: pytest.LogCaptureFixture) -> None:
    """A session, a connection, and their async kinds; one warning in a process."""
    async with AsyncSession(checkouts.async_engine) as asynchronous:
        await asynchronous.execute(sqlalchemy.text("select 1"))
        with checkouts.session() as session, checkouts.engine.connect() as connection:
            async with checkouts.async_engine.connect() as async_connection:
                for value in (session, connection, asynchronous, async_connection):
                    framework._warned = False
                    for _ in range(2):
                        framework.warn_of_held({}, checkouts.numbers(value))
    assert warnings_about_sqlalchemy(caplog) == 4


async def test_a_session_in_the_state_of_the_request(checkouts: Checkouts, caplog: pytest.LogCaptureFixture) -> None:
    """A middleware has put it there; a subscription's stream holds it too."""
    async with Hub() as hub:
        with checkouts.session() as session:
            client = Client()
            client.left.set()
            scope = {"type": "http", "method": "GET", "http_version": "1.1", "headers": [], "state": {"db": session}}
            await EventSourceResponse(hub.subscribe("news"))(scope, client.receive, client.send)
    assert warnings_about_sqlalchemy(caplog) == 1


async def test_sessions_that_hold_nothing(checkouts: Checkouts, caplog: pytest.LogCaptureFixture) -> None:
    """One that was not used, one that has committed, a closed one, and what is no session."""
    with checkouts.session(used=False) as unused, checkouts.session() as committed:
        committed.commit()
        closed = checkouts.engine.connect()
        closed.close()
        for value in (unused, committed, closed, checkouts.engine, "text", None):
            framework.warn_of_held({"state": {"value": value}}, checkouts.numbers(value))
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/sync", "/async"])
async def test_a_dependency_holds_a_connection(
    checkouts: Checkouts, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """FastAPI runs it in a thread, or in the event loop."""
    app = FastAPI()

    def sync_session() -> Iterator[Session]:
        with checkouts.session() as session:
            yield session

    async def async_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(checkouts.async_engine) as session:
            await session.execute(sqlalchemy.text("select 1"))
            yield session

    @app.get("/sync")
    async def sync(session: Annotated[Session, Depends(sync_session)]) -> EventSourceResponse:
        return EventSourceResponse(["one"])

    @app.get("/async")
    async def asynchronous(session: Annotated[AsyncSession, Depends(async_session)]) -> EventSourceResponse:
        return EventSourceResponse(["one"])

    async with asgi_client(app) as client:
        for _ in range(2):
            assert (await client.get(path)).text == "data: one\n\n"
    assert warnings_about_sqlalchemy(caplog) == 1


async def test_a_route_that_yields_the_events_of_a_hub(checkouts: Checkouts, caplog: pytest.LogCaptureFixture) -> None:
    """FastAPI streams there, and `events` looks at the route that draws from it."""
    app = FastAPI()
    hub = Hub()

    def dependency() -> Iterator[Session]:
        with checkouts.session() as session:
            yield session

    async def first() -> AsyncIterator[ServerSentEvent]:
        async for event in events(hub.subscribe("news", start="earliest")):
            yield event
            break

    @app.get("/held", response_class=fastapi.EventSourceResponse)
    async def held_(session: Annotated[Session, Depends(dependency)]) -> AsyncIterator[ServerSentEvent]:
        async for event in events(hub.subscribe("news", start="earliest")):
            yield event
            break

    @app.get("/free", response_class=fastapi.EventSourceResponse)
    async def free(
        session: Annotated[Session, Depends(dependency, scope="function")],
    ) -> AsyncIterator[ServerSentEvent]:
        async for event in first():
            yield event

    async with hub, asgi_client(app) as client:
        await hub.publish("news", "one")
        for path, warnings in (("/free", 0), ("/held", 1), ("/held", 1)):
            assert "data: one\n" in (await client.get(path)).text
            assert warnings_about_sqlalchemy(caplog) == warnings
