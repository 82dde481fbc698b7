"""The access log, without what would let its readers in: tickets, tokens and cursors in URLs are hidden.

uvicorn writes a line for each request, with the whole target. `newswire serve`, `relay` and `run` give its logger this
filter. An application that starts uvicorn by itself does the same:

    logging.getLogger("uvicorn.access").addFilter(HideSecrets())
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from newswire.redact import without_secrets


class LossyHandler(logging.StreamHandler[Any]):
    """Loses a line that can't be written. Python shows a traceback instead: one for each request, on a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.handleError`."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class CutShort(logging.Filter):
    """Says of a request that was cut short by a stop that it was, where uvicorn shows a traceback of fifty lines.

    For the logger `uvicorn.error`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through."""
        if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
            record.msg, record.args, record.exc_info = "A request was not over when the server stopped.", (), None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


class HideSecrets(logging.Filter):
    """Hides credentials and cursors in the arguments of each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through."""
        if isinstance(record.args, tuple):
            record.args = tuple(without_secrets(arg) if isinstance(arg, str) else arg for arg in record.args)
        return True
