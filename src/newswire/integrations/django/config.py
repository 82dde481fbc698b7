"""The setting `NEWSWIRE` of a project, and the hub that it describes: one a process.

| key | what it is |
| --- | --- |
| `LOG` | the URL of the log; by default the log is in the project's database, if that is SQLite or PostgreSQL |
| `RETENTION`, `LATEST` | as of `newswire.Hub` |
| `SERVER` | where browsers reach the server that streams for WSGI processes; a path such as `/live` is good too |
| `SECRET` | its `jwt_secret`; by default tickets are signed with a secret that the log keeps |
| `PREFIX` | where `asgi_application` has newswire's routes |
| `ALLOW` | a function, or its dotted path: `allow(user, action, channels)` says who may do what |
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final
from urllib.parse import quote, urlencode

from django.conf import settings  # type: ignore[import-untyped]
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]
from django.core.signals import setting_changed  # type: ignore[import-untyped]
from django.db import connections  # type: ignore[import-untyped]
from django.utils.module_loading import import_string  # type: ignore[import-untyped]

from newswire.hub.hub import Hub
from newswire.integrations.redirect import StreamServer
from newswire.log.retention import Retention

NAME: Final = "NEWSWIRE"

# What psycopg's options have in common with the log's own driver.
_OPTIONS: Final = frozenset(
    {"passfile", "service", "sslcert", "sslcrl", "sslkey", "sslmode", "sslpassword", "sslrootcert"}
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The project's `NEWSWIRE`, in lower case."""

    log: str | None = None
    retention: Mapping[str, Retention] | Retention | None = None
    latest: Sequence[str] = ()
    server: str | None = None
    secret: str | None = None
    prefix: str | None = None
    allow: str | Callable[..., Any] | None = None

    @property
    def log_url(self) -> str:
        """The URL of the log.

        Raises:
            ImproperlyConfigured: there is no `LOG`, and the project's database can't have one.
        """
        return _url_of_database() if self.log is None else self.log

    def allowed_by(self) -> Callable[..., Any] | None:
        """The function `ALLOW`.

        Raises:
            ImproperlyConfigured: it can't be imported.
        """
        if not isinstance(self.allow, str):
            return self.allow
        try:
            found: Callable[..., Any] = import_string(self.allow)
        except ImportError as error:
            raise ImproperlyConfigured(
                f"{NAME}['ALLOW'] is {self.allow!r}, which can't be imported: {error}"
            ) from error
        return found

    def streams(self) -> StreamServer:
        """The server that streams for WSGI processes.

        Raises:
            ImproperlyConfigured: there is none.
        """
        if self.server is None:
            raise ImproperlyConfigured(
                f"{NAME}['SERVER'] is not set: a view that is not async, and any view under WSGI, where an open stream "
                "would hold a worker process or thread, sends readers there. Set it to where `newswire serve` on the "
                f"same log streams (manage.py newswire_serve), and {NAME}['SECRET'] to what signs the readers' "
                "tickets; or serve the project by an ASGI server (uvicorn project.asgi:application) and return "
                "`await stream(...)` in async views"
            )
        return StreamServer(self.server, secret=self.secret, hub=None if self.secret else hub())


def config() -> Config:
    """The project's configuration.

    Raises:
        ImproperlyConfigured: `NEWSWIRE` is no dict, or has a key that there is not.
    """
    given = getattr(settings, NAME, {})
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"{NAME} is a dict such as {{'LOG': 'sqlite:///newswire.db'}}, not {given!r}")
    known = {field.name.upper() for field in fields(Config)}
    if unknown := sorted(str(key) for key in given if key not in known):
        raise ImproperlyConfigured(f"{NAME} has no key {unknown[0]!r}; what there is: {', '.join(sorted(known))}")
    return Config(**{key.lower(): value for key, value in given.items()})


_lock = threading.Lock()
_hub: Hub[Any] | None = None


def hub() -> Hub[Any]:
    """The project's hub, one a process. It opens itself.

    Raises:
        ImproperlyConfigured: see `config`.
    """
    global _hub
    with _lock:
        if _hub is None:
            _hub = new_hub()
        return _hub


def new_hub() -> Hub[Any]:
    """A hub on the project's log, of the caller's own."""
    found = config()
    return Hub(found.log_url, retention=found.retention, latest=found.latest)


def _forget(*, setting: str, **more: object) -> None:
    """A test has changed the setting: the next `hub()` is another one."""
    global _hub
    if setting == NAME and _hub is not None:
        _hub.sync.close()
        _hub = None


setting_changed.connect(_forget)


def _url_of_database() -> str:
    database = connections["default"].settings_dict
    engine, name = str(database["ENGINE"]), str(database["NAME"])
    if engine.endswith("sqlite3"):
        return "memory://" if ":memory:" in name or "mode=memory" in name else f"sqlite:///{name}"
    if "postgresql" in engine or "postgis" in engine:
        return _url_of_postgres(database, name)
    raise ImproperlyConfigured(
        f"the database 'default' ({engine}) can't have a log in it: set {NAME}['LOG'] to the URL of one, such as "
        "sqlite:///newswire.db or redis://localhost:6379/0"
    )


def _url_of_postgres(database: Mapping[str, Any], name: str) -> str:
    """The same server by the same way: through its socket if there is no host, and with its options for TLS."""
    user = quote(str(database.get("USER") or ""), safe="")
    password = quote(str(database.get("PASSWORD") or ""), safe="")
    host, port = str(database.get("HOST") or ""), str(database.get("PORT") or "")
    login = f"{user}{':' if password else ''}{password}@" if user else ""
    query = {key: str(value) for key, value in (database.get("OPTIONS") or {}).items() if key in _OPTIONS}
    place = host
    if not host or host.startswith("/"):  # the folder of a socket; the driver knows the usual ones
        place = ""
        query |= {"host": host} if host else {}
        query |= {"port": port} if port else {}
    elif port:
        place = f"{host}:{port}"
    return f"postgresql://{login}{place}/{quote(name)}{f'?{urlencode(query)}' if query else ''}"
