"""A project of Django: `python django_site.py FOLDER SCENARIO ...`, or its `application` and `wsgi` by a server.

A process of its own for each: a process has one configuration of Django. FOLDER (or the variable SITE) has its database
and, if there are such files, the JSON of its `NEWSWIRE` and of another database (`newswire.json`, `database.json`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import django
from django.conf import settings

FOLDER = Path(sys.argv[1] if __name__ == "__main__" else os.environ["SITE"])
_config = FOLDER / "newswire.json"
_database = FOLDER / "database.json"
settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the tests, and of nothing else",
    ALLOWED_HOSTS=["*"],
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={
        "default": json.loads(_database.read_text())
        if _database.exists()
        else {"ENGINE": "django.db.backends.sqlite3", "NAME": str(FOLDER / "site.db")}
    },
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
        "newswire.integrations.django",
    ],
    MIDDLEWARE=[
        "django.middleware.gzip.GZipMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    LOGGING={
        "version": 1,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "loggers": {"django.request": {"handlers": ["console"]}},
    },
    NEWSWIRE=json.loads(_config.read_text()) if _config.exists() else {},
)
django.setup()

from django.contrib.auth import get_user_model, login  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import call_command, execute_from_command_line  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import DatabaseError, connection, models, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

from newswire import Pattern, last_event_id  # noqa: E402
from newswire.integrations.django import (  # noqa: E402
    asgi_application,
    hub,
    publish,
    publish_saves,
    redirect,
    stream,
)


class Order(models.Model):
    """What the project is about."""

    state = models.TextField(default="new")

    class Meta:
        app_label = "orders"


publish_saves(Order, lambda order: f"orders.{order.pk}", data=lambda order: {"state": order.state})


async def events(request: HttpRequest, channel: str) -> HttpResponseBase:
    return await stream(request, hub().subscribe(channel, after=last_event_id(request)))


def events_sync(request: HttpRequest, channel: str) -> HttpResponseBase:
    return redirect(request, hub().subscribe(channel))


@csrf_exempt
def order(request: HttpRequest, pk: int) -> HttpResponseBase:
    with transaction.atomic():
        Order.objects.update_or_create(pk=pk, defaults={"state": request.body.decode()})
    return HttpResponse()


@csrf_exempt
def enter(request: HttpRequest, name: str) -> HttpResponseBase:
    user, _ = get_user_model().objects.get_or_create(username=name)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return JsonResponse({"pk": user.pk})


urlpatterns = [
    path("events/<str:channel>", events),
    path("sync/<str:channel>", events_sync),
    path("orders/<int:pk>", order),
    path("enter/<str:name>", enter),
]


def allow(user: Any, action: str, channels: list[str]) -> bool:
    """The rule of the project: everyone reads `public`, and a user reads `user.NAME`."""
    return channels == ["public"] or channels == [f"user.{user.get_username()}"]


async def allow_async(user: Any, action: str, channels: list[str]) -> bool:
    await asyncio.sleep(0)
    return allow(user, action, channels)


application = asgi_application() if settings.NEWSWIRE.get("PREFIX") else get_asgi_application()
wsgi = get_wsgi_application()


def migrate() -> None:
    """Make the tables, those of the log among them."""
    call_command("migrate", verbosity=0, run_syncdb=True)
    with connection.schema_editor() as editor:
        editor.create_model(Order)


# -- scenarios: each prints what it found, as JSON


_since: list[str | None] = [None]


def stored() -> list[list[str]]:
    """What the log has since the last call: channel, type and data. Call it outside transactions."""
    with transaction.atomic():
        publish("end", "")  # comes after all that was committed before it

    async def read() -> list[list[str]]:
        found = []
        async for event in hub().subscribe(Pattern(">"), after=_since[-1], start="earliest", envelope=True):
            if event.channel == "end":
                _since.append(event.id)
                break
            found.append([event.channel or "", event.event, event.data])
        return found

    return hub().sync.call(read, 20)


class Undone(Exception):
    """Rolls a transaction back."""


def publishing() -> Any:
    """Outside a transaction, in one that commits, in one that does not, in a savepoint that does not."""
    publish("news", "outside")
    with transaction.atomic():
        publish("news", "committed", event="tick")
    try:
        with transaction.atomic():
            publish("news", "undone")
            raise Undone
    except Undone:
        pass
    with transaction.atomic():
        publish("news", "outer")
        try:
            with transaction.atomic():
                publish("news", "inner")
                raise Undone
        except Undone:
            pass
    return stored()


def order_of_commits() -> Any:
    """What Django calls after the commit publishes behind what the transaction published; savepoints may nest."""
    with transaction.atomic():
        transaction.on_commit(lambda: publish("news", "after"))
        publish("news", "first")
        with transaction.atomic():
            publish("news", "second")
            with transaction.atomic():
                publish("news", "third")
        with contextlib.suppress(Undone), transaction.atomic():
            with transaction.atomic():  # released, then rolled back with the one around it
                publish("news", "undone")
            transaction.on_commit(lambda: publish("news", "never"))
            raise Undone
    transaction.set_autocommit(False)
    publish("news", "undone, by hand")
    transaction.rollback()
    publish("news", "by hand")
    transaction.commit()
    transaction.set_autocommit(True)
    with contextlib.suppress(DatabaseError), transaction.atomic():
        publish("news", "undone, too")
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM there_is_no_such_table")
    return stored()


def saves() -> Any:
    """Each save and deletion, with its transaction."""
    one = Order.objects.create(state="new")
    try:
        with transaction.atomic():
            one.state = "paid"
            one.save()
            raise Undone
    except Undone:
        pass
    one.state = "sent"
    one.save()
    one.delete()
    refused: list[str] = []
    for wrong in ({"channel": 3}, {"channel": "orders", "data": "state"}):
        try:
            publish_saves(Order, **wrong)
        except TypeError as error:
            refused.append(str(error).partition(" ")[0])
    return stored(), refused


def other_log() -> Any:
    """A log that is elsewhere gets the event after the commit; what can't be published is an error within."""
    found: list[str] = []
    here = connection.settings_dict
    elsewhere = f"postgresql://postgres@/postgres?host={here['HOST']}&port={here['PORT']}&schema={here['NAME']}"
    with override_settings(
        NEWSWIRE={"LOG": elsewhere if connection.vendor == "postgresql" else f"sqlite:///{FOLDER}/other.db"}
    ):
        _since.append(None)
        try:
            with transaction.atomic():
                publish("news", "undone")
                raise Undone
        except Undone:
            pass
        with transaction.atomic():
            publish("news", "committed")
            try:
                publish("a bad channel\n", "x")
            except ValueError as error:
                found.append(type(error).__name__)
        result = stored()
        _since[-2:] = []
    return [found, result]


def checks() -> Any:
    """What `check` says of each configuration."""
    from django.core.checks import run_checks

    found = []
    for config in (
        {},
        {"LOGG": "x"},
        [],
        {"LOG": "nonsense://"},
        {"SERVER": "live.example"},
        {"PREFIX": "live/"},
        {"ALLOW": "nowhere.at_all"},
        {"SECRET": "short"},
        {"LOG": "memory://"},
        {"SERVER": "http://localhost:8001"},
        {"SERVER": "http://localhost:8001", "SECRET": "s" * 32},
    ):
        with override_settings(NEWSWIRE=config):
            found.append([message.id for message in run_checks() if str(message.id).startswith("newswire.")])
    return found


def commands() -> Any:
    """`newswire_publish`, and its error."""
    output = StringIO()
    call_command("newswire_publish", "news", "hello", event="tick", stdout=output)
    try:
        call_command("newswire_publish", "bad channel\n", "hello")
    except Exception as error:
        failed = type(error).__name__
    with override_settings(NEWSWIRE={}):  # another hub: the command has closed its own
        return [bool(output.getvalue().strip()), stored(), failed]


def serve() -> None:
    """`manage.py newswire_serve`, with its own arguments."""
    execute_from_command_line(["manage.py", "newswire_serve", *sys.argv[3:]])


if __name__ == "__main__":
    if sys.argv[2] == "serve":
        serve()
    migrate()
    print(json.dumps({name: globals()[name]() for name in sys.argv[2:]}))
    hub().sync.close()
