"""An application in each framework whose streams begin with a query, on a pool of five connections.

`/events/news` queries as the framework's users do (a dependency, the request's session, the ORM), then streams.
`/held` says how many connections are not in the pool. A server gets `pooled_apps:NAME`.
"""

import os
from collections.abc import Iterator
from typing import Annotated, Any

import sqlalchemy
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from newswire import EventSourceResponse, Hub

FOLDER = os.environ["SITE"]
POOL = 5
hub = Hub("memory://")
engine = sqlalchemy.create_engine(
    f"sqlite:///{FOLDER}/rows.db",
    poolclass=QueuePool,
    pool_size=POOL,
    max_overflow=0,
    pool_timeout=10,
    connect_args={"check_same_thread": False},
)


def held() -> int:
    """Connections that are checked out."""
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


def query(session: Session) -> str:
    return str(session.execute(sqlalchemy.text("select 'row'")).scalar())


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    def rows(request: Request) -> Response:
        with Session(engine) as session:
            return PlainTextResponse(query(session))

    async def events(request: Request) -> Response:
        with Session(engine) as session:
            channel = "news" if query(session) else ""
        return EventSourceResponse(hub.subscribe(channel))  # type: ignore[return-value]

    async def count(request: Request) -> Response:
        return PlainTextResponse(str(held()))

    routes = [Route("/events", events), Route("/rows", rows), Route("/held", count)]
    return Starlette(routes=routes, lifespan=hub.lifespan)


def fastapi() -> Any:
    from fastapi import Depends, FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI(lifespan=hub.lifespan)

    def session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @app.get("/events")
    async def events(session: Annotated[Any, Depends(session)]) -> EventSourceResponse:
        query(session)
        return EventSourceResponse(hub.subscribe("news"))

    @app.get("/yielded", response_class=_fastapis())
    async def yielded(session: Annotated[Any, Depends(session, scope="function")]) -> Any:
        async for event in _events():
            yield event

    @app.get("/rows")
    def rows(session: Annotated[Any, Depends(session)]) -> Any:
        return PlainTextResponse(query(session))

    @app.get("/held")
    async def count() -> Any:
        return PlainTextResponse(str(held()))

    return app


def _fastapis() -> Any:
    from newswire.integrations.fastapi import EventSourceResponse

    return EventSourceResponse


def _events() -> Any:
    from newswire.integrations.fastapi import events

    return events(hub.subscribe("news", start="earliest"))


def litestar() -> Any:
    from litestar import Litestar, get
    from litestar.di import Provide

    def provided() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    @get("/events")
    async def events(session: Session) -> EventSourceResponse:
        query(session)
        return EventSourceResponse(hub.subscribe("news"))

    @get("/rows", sync_to_thread=True, media_type="text/plain")
    def rows(session: Session) -> str:
        return query(session)

    @get("/held", media_type="text/plain")
    async def count() -> str:
        return str(held())

    session = Provide(provided, sync_to_thread=False)
    return Litestar([events, rows, count], dependencies={"session": session}, on_shutdown=[hub.close])


def flask() -> Any:
    from flask import Flask, g

    from newswire.integrations.flask import stream

    app = Flask(__name__)

    def session() -> Session:
        if "session" not in g:
            g.session = Session(engine)
        return g.session  # type: ignore[no-any-return]

    @app.teardown_appcontext
    def close(error: BaseException | None) -> None:
        if "session" in g:
            g.pop("session").close()

    @app.get("/events")
    def events() -> Any:
        query(session())
        return stream(hub, hub.subscribe("news"))

    @app.get("/rows")
    def rows() -> str:
        return query(session())

    @app.get("/held")
    def count() -> str:
        return str(held())

    return app


def quart() -> Any:
    from quart import Quart, g

    from newswire.integrations.quart import stream

    app = Quart(__name__)

    @app.before_request
    async def begin() -> None:
        g.session = Session(engine)

    @app.teardown_request
    async def close(error: BaseException | None) -> None:
        g.session.close()

    @app.get("/events")
    async def events() -> Any:
        query(g.session)
        return await stream(hub.subscribe("news"))

    @app.get("/rows")
    async def rows() -> str:
        return query(g.session)

    @app.get("/held")
    async def count() -> str:
        return str(held())

    app.after_serving(hub.close)
    return app


def aiohttp(arguments: list[str]) -> Any:
    from aiohttp import web

    from newswire.integrations.aiohttp import stream

    async def events(request: web.Request) -> web.StreamResponse:
        with Session(engine) as session:
            query(session)
        return await stream(request, hub.subscribe("news"))

    async def rows(request: web.Request) -> web.StreamResponse:
        with Session(engine) as session:
            return web.Response(text=query(session))

    async def count(request: web.Request) -> web.StreamResponse:
        return web.Response(text=str(held()))

    async def close(app: web.Application) -> None:
        await hub.close()

    app = web.Application()
    app.add_routes([web.get("/events", events), web.get("/rows", rows), web.get("/held", count)])
    app.on_cleanup.append(close)
    return app


def django() -> Any:
    """Its connections have no pool on SQLite: each that is open holds the database's file."""
    import django as package
    from django.conf import settings
    from django.http import HttpResponse
    from django.urls import path

    path_of_database = f"{FOLDER}/rows.db"
    settings.configure(
        ROOT_URLCONF=__name__,
        SECRET_KEY="of the tests",
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": path_of_database, "CONN_MAX_AGE": None}},
    )
    package.setup()
    from asgiref.sync import sync_to_async
    from django.core.asgi import get_asgi_application
    from django.db import connection

    from newswire.integrations.django import stream

    def select() -> str:
        with connection.cursor() as cursor:
            cursor.execute("select 'row'")
            return str(cursor.fetchone()[0])

    async def events(request: Any) -> Any:
        await sync_to_async(select)()
        return await stream(request, hub.subscribe("news"))

    def rows(request: Any) -> Any:
        return HttpResponse(select())

    def count(request: Any) -> Any:
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return HttpResponse(str(sum(os.path.realpath(link) == path_of_database for link in links)))

    globals()["urlpatterns"] = [path("events", events), path("rows", rows), path("held", count)]
    return get_asgi_application()


def app() -> Any:
    """The application that the environment names."""
    return globals()[os.environ["FRAMEWORK"]]()


if os.environ["FRAMEWORK"] == "django":
    django_app = django()  # daphne calls no factory
