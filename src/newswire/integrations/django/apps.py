"""Newswire as an application of a Django project: checks, commands, and the log's tables made by `migrate`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig  # type: ignore[import-untyped]
from django.core import checks  # type: ignore[import-untyped]
from django.db.models.signals import post_migrate  # type: ignore[import-untyped]


class NewswireConfig(AppConfig):  # type: ignore[misc]
    """`INSTALLED_APPS = ["newswire.integrations.django"]`."""

    name = "newswire.integrations.django"
    label = "newswire"
    verbose_name = "newswire"

    def ready(self) -> None:
        """Called by Django when the project is set up."""
        from newswire.integrations.django.checks import check_settings

        checks.register(check_settings)
        post_migrate.connect(_make_tables, sender=self)


def _make_tables(using: str, **more: Any) -> None:
    """Make the tables of a log in the project's database, so that a first publish in a transaction finds them."""
    from newswire.integrations.django.config import config, new_hub

    if using == "default" and config().log is None:
        made = new_hub()
        made.sync.open()
        made.sync.close()
