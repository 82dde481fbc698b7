"""`manage.py newswire_serve`: the server that streams for WSGI processes, on the project's log."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand  # type: ignore[import-untyped]

from newswire.integrations.django.config import config


class Command(BaseCommand):  # type: ignore[misc]
    """Becomes `newswire serve`, with the log and the secret of the project's `NEWSWIRE`."""

    help = "Run `newswire serve` on the project's log, with its secret. All further arguments are passed on to it."

    def run_from_argv(self, argv: list[str]) -> None:
        """Take the arguments as they are: they are `newswire serve`'s."""
        self._become(argv[2:])

    def handle(self, *arguments: Any, **options: Any) -> None:
        """Called by `call_command`."""
        self._become([str(argument) for argument in arguments])

    def _become(self, arguments: list[str]) -> None:
        found = config()
        environment = {**os.environ, "NEWSWIRE_LOG": found.log_url}
        if found.secret is not None:
            environment["NEWSWIRE_JWT_SECRET"] = found.secret
        command = [sys.executable, "-m", "newswire", "serve", *arguments]
        os.execve(sys.executable, command, environment)
