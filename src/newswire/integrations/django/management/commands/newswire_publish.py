"""`manage.py newswire_publish CHANNEL DATA`: an event from the shell."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError  # type: ignore[import-untyped]

from newswire.errors import NewswireError
from newswire.integrations.django.config import hub


class Command(BaseCommand):  # type: ignore[misc]
    """Publishes to the project's log."""

    help = "Publish an event to the project's log, and print its id."

    def add_arguments(self, parser: Any) -> None:
        """The command's arguments."""
        parser.add_argument("channel")
        parser.add_argument("data", help="The event's data, sent as it is.")
        parser.add_argument("--event", default="message", help="The event's type.")

    def handle(self, *arguments: Any, channel: str, data: str, event: str, **options: Any) -> None:
        """Run it."""
        try:
            position = hub().sync.publish(channel, data, event=event)
        except NewswireError as error:
            raise CommandError(str(error)) from error
        finally:
            hub().sync.close()
        self.stdout.write(str(position))
