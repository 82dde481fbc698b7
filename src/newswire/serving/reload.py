"""Settings that are read again while a server runs, on SIGHUP: what takes effect, and what waits for a restart.

Each process reads them by itself, the supervisor of several workers too: a worker that is started later begins with
them. Settings that can't be used change nothing, so a slip in the file never stops a server.
"""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from typing import Any, Protocol, TypeVar

from newswire.serving.settings import ServerSettings

logger: logging.Logger = logging.getLogger("newswire.server")

S = TypeVar("S", bound=ServerSettings)


class Again(Protocol):
    """Reads a server's settings again, from where they came from. Can be pickled, for worker processes."""

    def __call__(self) -> Any:
        """Returns them.

        Raises:
            Exception: they can't be used; the message says why.
        """
        ...


def read_again(current: S, again: Again) -> tuple[S, str] | None:
    """Reads settings again.

    Args:
        current: the settings in force.
        again: reads them.

    Returns:
        the settings from now on, in which those that can't change while a server runs are as before; and a line for the
        log that names what changes. None: they can't be used, the log says why, and nothing changes.
    """
    try:
        found: S = again()
        if found.authenticates != current.authenticates:
            raise ValueError(
                "whether clients need credentials changes only with a restart"  # the routes and the check of the host
            )
    except Exception as error:  # whatever reads settings raises, a running server goes on with those that it has
        logger.error("the settings were not read again, and those of before stay: %s", error)
        return None
    changed = [one.name for one in fields(current) if getattr(found, one.name) != getattr(current, one.name)]
    now = [name for name in changed if name in current.reloadable]
    later = [name for name in changed if name not in current.reloadable]
    changes = f"{_listed(now)} changed" if now else "none of them changed"
    waiting = f"; {_listed(later)} can change only with a restart" if later else ""
    line = f"read the settings and the files of keys again: {changes}{waiting}"
    return replace(current, **{name: getattr(found, name) for name in now}), line


def _listed(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
