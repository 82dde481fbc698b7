"""Tells SIGHUP of an operator from that of a terminal that was closed, which is to end the server.

It imports next to nothing, because a command needs it before it imports anything else.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


class Hangup:
    """What a server does about SIGHUP.

    Args:
        call: called for an operator's.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._on_terminal = _has_terminal()

    def __call__(self) -> None:
        if self._on_terminal and not _has_terminal():
            signal.raise_signal(signal.SIGTERM)
        else:
            self._call()


def _has_terminal() -> bool:
    return any(os.isatty(number) for number in range(3))  # a terminal that was closed is none any more
