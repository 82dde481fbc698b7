"""Newswire as an application of a Django project: checks, commands, and the log's tables made by `migrate`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig  # type: ignore[import-untyped]
from django.core import checks  # type: ignore[import-untyped]
from django.core.checks import CheckMessage, Error, Warning  # type: ignore[import-untyped]
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]
from django.db.models.signals import post_migrate  # type: ignore[import-untyped]

from newswire.integrations.django.config import NAME, config
from newswire.integrations.redirect import StreamServer
from newswire.log.open import open_log

_SHORT = 32  # bytes of a secret: as many as HS256 has (RFC 7518, section 3.2)


def check_settings(app_configs: Any, **more: Any) -> list[CheckMessage]:
    """Find what can't work, before a request does."""
    try:
        found = config()
        url = found.log_url
        found.allowed_by()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="newswire.E001")]
    messages: list[CheckMessage] = []
    try:
        open_log(url)
    except (ValueError, ImportError) as error:
        messages.append(Error(f"{NAME}['LOG']: {error}", id="newswire.E002"))
    if found.server is not None:
        try:
            StreamServer(found.server, secret=found.secret or "-")  # without one, tickets are signed with the log's
        except (ValueError, ImportError) as error:
            messages.append(Error(f"{NAME}['SERVER']: {error}", id="newswire.E003"))
        else:
            if found.secret is None:
                what = f"{NAME} has a SERVER and no SECRET: a server without credentials refuses its readers' tickets"
                hint = f"set {NAME}['SECRET'], or start the server with other credentials and silence this"
                messages.append(Warning(what, hint=hint, id="newswire.W003"))
    if found.prefix is not None and (not found.prefix.startswith("/") or found.prefix.endswith("/")):
        messages.append(Error(f"{NAME}['PREFIX'] is a path such as '/live', not {found.prefix!r}", id="newswire.E004"))
    if found.secret is not None and len(found.secret.encode()) < _SHORT:
        hint = "make one with: openssl rand -base64 32"
        messages.append(Warning(f"{NAME}['SECRET'] has less than {_SHORT} bytes", hint=hint, id="newswire.W001"))
    if url.startswith("memory:"):
        hint = f"set {NAME}['LOG'], to sqlite:///newswire.db say, unless this is a test"
        messages.append(
            Warning("the log is in memory: each process has its own, gone at its end", hint=hint, id="newswire.W002")
        )
    return messages


class NewswireConfig(AppConfig):  # type: ignore[misc]
    """`INSTALLED_APPS = ["newswire.integrations.django"]`."""

    name = "newswire.integrations.django"
    label = "newswire"
    verbose_name = "newswire"

    def ready(self) -> None:
        """Called by Django when the project is set up."""
        checks.register(check_settings)
        post_migrate.connect(_make_tables, sender=self)


def _make_tables(using: str, **more: Any) -> None:
    """Make the tables of a log in the project's database, so that a first publish in a transaction finds them."""
    from newswire.integrations.django.config import config, new_hub

    if using == "default" and config().log is None:
        made = new_hub()
        made.sync.open()
        made.sync.close()
