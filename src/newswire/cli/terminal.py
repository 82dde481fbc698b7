"""Messages for a terminal: no control characters from outside, and colours only where they are wanted.

All commands write through here what comes from outside: a server's error text, an event's, an exception's.
"""

from __future__ import annotations

import os
import sys
from typing import Final, TextIO
from urllib.parse import urlsplit

import click

from newswire.redact import printable, without_userinfo

# What asyncio, httpx and their kind say where the kernel has a better word.
_GENERAL: Final = ("All connection attempts failed", "Connect call failed")


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


def reason(error: BaseException) -> str:
    """Why a connection failed, in the kernel's words if it has any: `connection refused`."""
    found: BaseException | None = error
    for _ in range(10):
        if found is None:
            break
        if isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if isinstance(found, OSError) and found.errno:
            # asyncio puts the address before it: "Multiple exceptions: [Errno 111] Connect call failed (…)"
            known = os.strerror(found.errno) if found.errno > 0 else found.strerror
            return (known or str(found)).lower()
        found = found.__cause__ or found.__context__
    return "no connection" if any(words in str(error) for words in _GENERAL) else str(error) or type(error).__name__
