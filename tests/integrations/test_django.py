"""Django: settings, publishing with a commit, WSGI that sends streams elsewhere, newswire's routes beside Django's."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psutil
import pytest
from tests.fixtures.engines import Postgres
from tests.fixtures.ports import free_port
from tests.fixtures.serve import Reader, clean_environment

HERE = Path(__file__).parent
SITE = HERE / "django_site.py"
PATIENCE = 40.0
SECRET = "a secret of the tests, 32 bytes long"
GUNICORN = ["-m", "gunicorn", "--graceful-timeout", "3", "--bind"]
SERVERS: dict[str, Callable[[str], list[str]]] = {
    "uvicorn": lambda port: ["-m", "uvicorn", "--ws", "none", "--port", port, "django_site:application"],
    "daphne": lambda port: ["-m", "daphne", "-b", "127.0.0.1", "-p", port, "django_site:application"],
    "gunicorn sync": lambda port: [*GUNICORN, f"127.0.0.1:{port}", "django_site:wsgi"],
    "gunicorn gthread": lambda port: [
        *GUNICORN, f"127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "2", "django_site:wsgi",
    ],
    "newswire_serve": lambda port: [str(SITE), ".", "serve", "--port", port],
}  # fmt: skip


SCENARIOS = ("publishing", "order_of_commits", "saves", "other_log", "checks", "commands")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A project with its database, and what its scenarios found: one process, since each start costs a second."""
    folder = tmp_path_factory.mktemp("project")
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        name = f"site_{uuid4().hex[:8]}"
        server.sql(f"CREATE DATABASE {name}")
        place = {"USER": "postgres", "HOST": str(server.folder), "PORT": server.port}  # its socket
        database = {"ENGINE": "django.db.backends.postgresql", "NAME": name, **place}
        (folder / "database.json").write_text(json.dumps(database))
    done = subprocess.run(
        [sys.executable, str(SITE), str(folder), *SCENARIOS],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=clean_environment({"SITE": str(folder)}),
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_publishing_with_the_commit(project: tuple[Path, dict[str, Any]]) -> None:
    """What was rolled back was not published, savepoints included."""
    assert project[1]["publishing"] == [
        ["news", "message", "outside"],
        ["news", "tick", "committed"],
        ["news", "message", "outer"],
    ]


def test_the_order_of_commits(project: tuple[Path, dict[str, Any]]) -> None:
    """`on_commit` comes last. A savepoint goes with the one around it, and everything with a failed statement."""
    assert project[1]["order_of_commits"] == [
        ["news", "message", each] for each in ("first", "second", "third", "after", "by hand")
    ]


def test_saves_of_a_model(project: tuple[Path, dict[str, Any]]) -> None:
    """Each with its transaction; what could never be published is refused when it is set up."""
    saves, refused = project[1]["saves"]
    assert saves == [
        ["orders.1", "saved", '{"state":"new"}'],
        ["orders.1", "saved", '{"state":"sent"}'],
        ["orders.1", "deleted", '{"state":"sent"}'],
    ]
    assert refused == ["channel", "data"]


def test_a_log_that_is_elsewhere(project: tuple[Path, dict[str, Any]]) -> None:
    """Events go out after the commit, and a bad one is an error before it."""
    assert project[1]["other_log"] == [["InvalidChannel"], [["news", "message", "committed"]]]


def test_checks(project: tuple[Path, dict[str, Any]]) -> None:
    """`manage.py check` finds what can't work."""
    assert project[1]["checks"] == [
        [],
        ["newswire.E001"],
        ["newswire.E001"],
        ["newswire.E002"],
        ["newswire.E003"],
        ["newswire.E004"],
        ["newswire.E001"],
        ["newswire.W001"],
        ["newswire.W002"],
        ["newswire.W003"],
        [],
    ]


def test_commands(project: tuple[Path, dict[str, Any]]) -> None:
    """`newswire_publish` prints the id, or says what is wrong."""
    assert project[1]["commands"] == [True, [["news", "tick", "hello"]], "CommandError"]


# -- under servers


class Site:
    """The project under a server.

    Attributes:
        url: its address.
        process: the server.
    """

    def __init__(self, server: str, folder: Path, **config: object) -> None:
        (folder / "newswire.json").write_text(json.dumps(config))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = clean_environment({"SITE": str(folder), "PYTHONPATH": str(HERE)})
        command = [sys.executable, *SERVERS[server](str(port))]
        output = folder / f"{server}.output"
        with output.open("wb") as file:
            self.process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file, env=environment)
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            assert self.process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)

    def close(self) -> None:
        """Stop it, with its workers."""
        workers = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        finally:
            for worker in (self.process, *workers):
                with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                    worker.kill()


@pytest.fixture
def folder(project: tuple[Path, dict[str, Any]]) -> Path:
    """A folder with the project's database."""
    return project[0]


@contextmanager
def running(server: str, folder: Path, **config: object) -> Iterator[Site]:
    site = Site(server, folder, **config)
    try:
        yield site
    finally:
        site.close()


Running = Callable[..., AbstractContextManager[Site]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("project", "server"), [("sqlite", "gunicorn sync"), ("postgresql", "gunicorn gthread")], indirect=["project"]
)
def test_wsgi_sends_streams_elsewhere(folder: Path, server: str) -> None:
    """Ten streams through a worker that could hold one; the ticket is the user's, and an order's event arrives."""
    with running("newswire_serve", folder, SECRET=SECRET) as streams:
        config = {"SECRET": SECRET, "SERVER": streams.url}
        with running(server, folder, **config) as site, contextlib.ExitStack() as stack:
            client = stack.enter_context(httpx2.Client(base_url=site.url, timeout=PATIENCE))
            client.post("/enter/ada")
            readers = []
            for view in ["events", "sync"] * 5:
                answer = client.get(f"/{view}/orders.1")
                assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store"), answer.text
                readers.append(stack.enter_context(Reader(answer.headers["location"])))
                readers[-1].opened()
            assert client.post("/orders/1", content="paid").status_code == 200
            for reader in readers:
                [event] = reader.read(1)
                assert (event.event, event.data) == ("saved", '{"state":"paid"}')
            import jwt

            ticket = readers[0].answer.request.url.params["ticket"]
            assert jwt.decode(ticket, options={"verify_signature": False})["sub"] == "1"


@pytest.mark.slow
@pytest.mark.parametrize("project", ["sqlite"], indirect=True)
def test_wsgi_without_a_server_for_streams(folder: Path) -> None:
    """The error says what to set."""
    with running("gunicorn sync", folder) as site:
        for view in ("events", "sync"):
            assert httpx2.get(f"{site.url}/{view}/news", timeout=PATIENCE).status_code == 500
    output = (folder / "gunicorn sync.output").read_text()
    assert output.count("NEWSWIRE['SERVER'] is not set") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("project", "server", "allow"),
    [("sqlite", "uvicorn", "allow_async"), ("postgresql", "daphne", "allow")],
    indirect=["project"],
)
def test_newswires_routes_beside_djangos(folder: Path, server: str, allow: str) -> None:
    """With Django's session: a user may read what the project's function says; and the views stream too."""
    with running(server, folder, PREFIX="/live", ALLOW=f"django_site.{allow}") as site:  # noqa: SIM117
        with httpx2.Client(base_url=site.url, timeout=PATIENCE) as client:
            mine = "/live/channels/user.ada"
            assert client.get(mine).status_code == 403
            client.post("/enter/ada")
            cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
            with Reader(site.url + mine, {"Cookie": cookie}) as reader:
                reader.opened()
                assert client.post(mine, content="hello").status_code == 200
                assert [event.data for event in reader.read(1)] == ["hello"]
            assert client.post("/live/channels/user.bob", content="x").status_code == 403
            with Reader(f"{site.url}/events/orders.7", {"Accept-Encoding": "gzip"}) as reader:
                assert "content-encoding" not in reader.answer.headers  # the project's GZipMiddleware leaves it alone
                reader.opened()
                client.post("/orders/7", content="sent")
                assert [event.data for event in reader.read(1)] == ['{"state":"sent"}']
            assert client.get("/live/newswire.js").status_code == 200
            assert client.get("/live").headers["location"] == "/live/"


def test_the_database_of_the_project(tmp_path: Path) -> None:
    """It gives the log its URL, unless it is of a kind that can't have one."""
    code = """
from newswire.integrations.django import config
from django.db import connections
found = []
for database in (
    {"ENGINE": "django.db.backends.sqlite3", "NAME": "/x/site.db"},
    {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:memorydb_default?mode=memory&cache=shared"},
    {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "USER": "a b", "PASSWORD": "p@ss", "HOST": "db"},
    {"ENGINE": "django.contrib.gis.db.backends.postgis", "NAME": "shop", "USER": "", "HOST": "", "PORT": 6432},
    {
        "ENGINE": "django.db.backends.postgresql", "NAME": "shop", "USER": "ada", "HOST": "/run/own", "PORT": 6432,
        "OPTIONS": {"sslmode": "verify-full", "sslrootcert": "/x/root.crt", "pool": True},
    },
    {"ENGINE": "django.db.backends.mysql", "NAME": "shop"},
):
    connections["default"].settings_dict.update({"OPTIONS": {}, "PORT": "", "PASSWORD": "", **database})
    try:
        found.append(config.config().log_url)
    except Exception as error:
        found.append(str(error))
print("\\n".join(found))
"""
    environment = clean_environment({"SITE": str(tmp_path), "PYTHONPATH": str(HERE)})
    done = subprocess.run(
        [sys.executable, "-c", "import django_site" + code], capture_output=True, text=True, env={**environment}
    )
    assert done.returncode == 0, done.stderr
    first, second, third, fourth, fifth, sixth = done.stdout.splitlines()
    assert first == "sqlite:////x/site.db"
    assert second == "memory://"
    assert third == "postgresql://a%20b:p%40ss@db/shop"
    assert fourth == "postgresql:///shop?port=6432"  # through its socket, as Django goes there
    tls = "sslmode=verify-full&sslrootcert=%2Fx%2Froot.crt"
    assert fifth == f"postgresql://ada@/shop?{tls}&host=%2Frun%2Fown&port=6432"
    assert "set NEWSWIRE['LOG']" in sixth
