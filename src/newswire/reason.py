"""Why a connection, or code of the application's, failed: in words for people."""

from __future__ import annotations

import linecache
import os
import site
import sysconfig
import traceback
from pathlib import Path
from typing import Final

# What asyncio, httpx and their kind say where the kernel has a better word.
_GENERAL: Final = ("All connection attempts failed", "Connect call failed")
_TLS_WAITS: Final = (2, 3)  # SSL_ERROR_WANT_READ and _WRITE: no failure, and what a timeout came in the middle of


def reason(error: BaseException) -> str:
    """Why a connection failed, in the kernel's words if it has any: `connection refused`."""
    while isinstance(error, BaseExceptionGroup):  # of the tasks that tried each address
        error = error.exceptions[0]
    found: BaseException | None = error
    for _ in range(10):
        if found is None:
            break
        if isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if isinstance(found, OSError) and hasattr(found, "library"):  # of TLS, whose numbers are not the kernel's
            if found.errno not in _TLS_WAITS:
                return getattr(found, "verify_message", None) or found.strerror or str(found)
        elif isinstance(found, OSError) and found.errno:
            # asyncio puts the address before it: "Multiple exceptions: [Errno 111] Connect call failed (…)"
            known = os.strerror(found.errno) if found.errno > 0 else found.strerror
            return (known or str(found)).lower()
        found = found.__cause__ or found.__context__
    if any(words in str(error) for words in _GENERAL):
        return "no connection"
    name = type(error).__name__
    return str(error) or ("no answer in time" if "Timeout" in name else name)


def what_failed(what: str, error: BaseException) -> str:
    """An error of code that we were given to run: its own line, and the frames of that code, the innermost last.

    Args:
        what: a sentence without its end, such as `shop.events can't be imported`.
        error: what the code raised.
    """
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        if _is_own(frame.filename):
            source = linecache.getline(frame.filename, frame.lineno or 0).strip()
            lines.append(f"  {_short(frame.filename)}, line {frame.lineno}{f': {source}' if source else ''}")
    last = "".join(traceback.format_exception_only(error)).rstrip()
    if "\n" in last:  # a syntax error shows its place itself
        return "\n".join([f"{what}:", *lines, last])
    return "\n".join([f"{what}: {last}", *lines])


def _is_own(file: str) -> bool:
    installed = (*site.getsitepackages(), sysconfig.get_path("stdlib"), str(Path(__file__).parent))
    return not file.startswith(("<", *installed))


def _short(file: str) -> str:
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except ValueError:
        return file
