"""Why a connection failed, in words for people."""

from __future__ import annotations

import os
from typing import Final

# What asyncio, httpx and their kind say where the kernel has a better word.
_GENERAL: Final = ("All connection attempts failed", "Connect call failed")


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
            return getattr(found, "verify_message", None) or found.strerror or str(found)
        if isinstance(found, OSError) and found.errno:
            # asyncio puts the address before it: "Multiple exceptions: [Errno 111] Connect call failed (…)"
            known = os.strerror(found.errno) if found.errno > 0 else found.strerror
            return (known or str(found)).lower()
        found = found.__cause__ or found.__context__
    return "no connection" if any(words in str(error) for words in _GENERAL) else str(error) or type(error).__name__
