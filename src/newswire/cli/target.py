"""The application that `newswire run` was asked for, as a process of its uvicorn loads it.

Worker and reloading processes start anew and know only their environment, so `run` leaves its wishes there. The
application is handed on as it is, but for the drain, which is set when the event loop is there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import Any, Final

from uvicorn.importer import ImportFromStringError, import_from_string

from newswire.delivery.drain import drain_of

VARIABLE: Final = "NEWSWIRE_RUN"
_STARTUP_FAILURE: Final = 3  # what uvicorn's supervisors take for: don't start it again

logger = logging.getLogger("newswire.cli")


def load() -> Drained:
    """Import the application."""
    wishes = json.loads(os.environ[VARIABLE])
    try:
        app = import_from_string(wishes["app"])
    except ImportFromStringError as error:
        logger.error("%s Give MODULE:ATTRIBUTE, and --app-dir if the module is elsewhere.", error)
        sys.exit(_STARTUP_FAILURE)
    if wishes["factory"]:
        app = app()
    return Drained(app, wishes["drain"], wishes["grace"])


class Drained:
    """An ASGI application whose streams end as `run` was told."""

    def __init__(self, app: Any, mode: Any, grace: float) -> None:
        self._app = app
        self._mode = mode
        self._grace = grace
        self._set = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self._set:
            self._set = True
            drain = drain_of(asyncio.get_running_loop())
            drain.mode, drain.grace = self._mode, self._grace
        await self._app(scope, receive, send)
