"""The signals that come while a command that serves is being imported, which takes a third of a second.

By default, SIGHUP would kill it then, although it only says that there are new settings. SIGTERM and Ctrl-C end a
command that serves with status 0, so they do that from the first moment too.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Final

from newswire.serving.hangup import Hangup

_STOPPABLE: Final = frozenset({"serve", "relay", "run"})
_GO_ON: Final = frozenset({"serve", "run"})  # on SIGHUP

hangups: Final[list[int]] = []
"""The SIGHUPs that came before the application could read its settings again."""

_hangup: Final = Hangup(lambda: hangups.append(1))


def hear() -> None:
    """Hear the signals if this process runs such a command; its own handlers take over later."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in _STOPPABLE:
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _leave)
    if command in _GO_ON:
        note_hangups()


def note_hangups() -> None:
    """From here on, SIGHUP is only noted, in `hangups`. One that a closed terminal sends ends the command."""
    number = getattr(signal, "SIGHUP", None)
    if number is not None:
        signal.signal(number, lambda *_: _hangup())


def end_on_hangup() -> None:
    """For a command that has nothing to do on SIGHUP, after all: it ends it, and one that was noted does."""
    number = getattr(signal, "SIGHUP", None)
    if number is not None:
        signal.signal(number, signal.SIG_DFL)
    if hangups:
        signal.raise_signal(signal.SIGTERM)


def _leave(number: int, frame: FrameType | None) -> None:
    # Nothing has begun; and an exception could be lost, as Python drops those of its own callbacks.
    os._exit(0)
