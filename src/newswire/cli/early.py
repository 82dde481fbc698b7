"""The signals that come before uvicorn hears them: while a command that serves is imported, which takes a third of a
second, and until its server has begun.

By default, SIGHUP would kill it then, although it may only say that there are new settings. SIGTERM and Ctrl-C end a
command that serves with status 0, so they do that from the first moment too.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from types import FrameType
from typing import Any, Final

from newswire.serving.hangup import Hangup

_COMMANDS: Final = frozenset({"serve", "relay", "run"})

hangups: Final[list[int]] = []
"""The SIGHUPs that came before it was known what they mean."""

stops: Final[list[int]] = []
"""The signals that were to end the command, from `stop_in_order` on. `_stop` raises SystemExit for each, but Python
drops what is raised while it runs a callback of its own (the import system has one for each module), so whoever begins
to serve looks here too."""

_hangup: Final = Hangup(lambda: hangups.append(1))
_number: Final[int | None] = getattr(signal, "SIGHUP", None)
_ignored: Final = _number is not None and signal.getsignal(_number) is signal.SIG_IGN  # as `nohup` has it


def hear() -> None:
    """Hear the signals if this process runs such a command; its own handlers take over later."""
    if (sys.argv[1] if len(sys.argv) > 1 else "") in _COMMANDS:
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _leave)
        note_hangups()


def note_hangups() -> None:
    """From here on, SIGHUP is only noted, in `hangups`. One that a closed terminal sends ends the command."""
    if _number is not None:
        signal.signal(_number, lambda *_: _hangup())


def end_on_hangup() -> None:
    """For a command that has nothing to do on SIGHUP, after all: it ends it as SIGTERM does, and one that was noted
    does. Under `nohup` it does nothing."""
    if _number is None:
        return
    if _ignored:
        signal.signal(_number, signal.SIG_IGN)
        return
    signal.signal(_number, lambda *_: signal.raise_signal(signal.SIGTERM))
    if hangups:
        signal.raise_signal(signal.SIGTERM)


def _leave(number: int, frame: FrameType | None) -> None:
    # Nothing has begun; and an exception could be lost, as Python drops those of its own callbacks.
    os._exit(0)


def stop_in_order() -> None:
    """From here on, SIGTERM and Ctrl-C end the command with status 0. Call it before anything is printed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    # uvicorn has stopped in order and raises the signal again, for whoever was there before it; or it has not begun,
    # and a coroutine that was made and not awaited is no news.
    stops.append(number)
    warnings.simplefilter("ignore", RuntimeWarning)
    sys.unraisablehook = _drop_exit
    sys.exit(0)


def _drop_exit(dropped: Any) -> None:
    if dropped.exc_type is not SystemExit:
        sys.__unraisablehook__(dropped)
