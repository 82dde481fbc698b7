"""Messages for a terminal: no control characters from outside, and colours only where they are wanted.

All commands write through here what comes from outside: a server's error text, an event's, an exception's.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

import click

from newswire.reason import reason
from newswire.redact import printable, without_userinfo

INTERRUPTED: Final = 130
"""The status of a command that Ctrl-C ended before its end."""


def standard_streams() -> None:
    """Make the standard streams fit for commands. Called once, before a command runs.

    A stream that the shell has closed leads nowhere: Python has None in its place, and the next file that is opened
    would get its number, and whatever a child writes. A message on standard error that can't be written, because the
    disk is full or its reader is gone, is lost, and changes nothing about what the command does.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # its number is the lowest that is free
            os.set_inheritable(nowhere, nowhere == number)
            setattr(sys, name, os.fdopen(nowhere, "w" if number else "r", encoding="utf-8", closefd=False))
    below = sys.stderr.buffer  # a raw file itself, if PYTHONUNBUFFERED is set
    if type(getattr(below, "raw", below)) is io.FileIO:  # a console of Windows is another
        messages = io.BufferedWriter(_Lossy(sys.stderr.fileno(), "wb", closefd=False))
        sys.stderr = io.TextIOWrapper(messages, sys.stderr.encoding, "backslashreplace", line_buffering=True)


class _Lossy(io.FileIO):
    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        with contextlib.suppress(OSError):
            return super().write(data) or size
        return size


def echo_done(text: str, done: str, status: int = 1) -> None:
    """Print the result of work that is done, and can't be undone if the output can't be written.

    Args:
        text: for standard output.
        done: says what is done, for standard error.
        status: of the command, then.
    """
    try:
        click.echo(text)
    except OSError as error:
        discard(sys.stdout)
        click.echo(f"newswire: {printable(done)}, but the output can't be written: {reason(error)}", err=True)
        raise SystemExit(status) from None


def wants_colours() -> bool:
    """Whether a terminal may get colours: NO_COLOR is not set (https://no-color.org), and the terminal knows some."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def colours(stream: TextIO) -> bool:
    """Whether to write in colours there: it is a terminal that wants them."""
    return wants_colours() and stream.isatty()


def say(text: str) -> None:
    """Write one message of newswire's own to standard error."""
    click.secho(f"newswire: {printable(text)}", err=True, dim=True, color=None if colours(sys.stderr) else False)


def unreachable(url: str, error: BaseException) -> str:
    """A sentence for a server that no connection can be made to.

    Args:
        url: of the request, or of the server.
        error: what the HTTP client raised.
    """
    parts = urlsplit(without_userinfo(url))
    return f"{parts.scheme}://{parts.netloc} can't be reached ({reason(error)})"


def shown_url(url: str) -> str:
    """A URL as it may be shown: without a password, and in one line."""
    return printable(without_userinfo(url), lines=False)


def discard(stream: TextIO) -> None:
    """It has no reader any more: what is left in its buffer goes nowhere, and Python does not complain when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def discard_unwritten(stream: TextIO) -> None:
    """The same at the end of a command, for a stream that takes no more: its reader or terminal is gone, or its disk is
    full. Commands flush what they write, and have heard of it; what is left is a server's log."""
    try:
        stream.flush()
    except OSError:
        discard(stream)
