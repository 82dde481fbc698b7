"""Where a source keeps its cursor, so that a process that starts again goes on where it stopped.

`Session` loads the last event ID from a store and saves it there; applications choose the store. An event counts as
handled when the loop asks for the next one, or when the `with` block ends without an error. Its ID is never saved
earlier. So after a crash in the middle of an event, that event comes once more and is not lost.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from newswire.validate import check_kind, check_not_negative, check_plain, shown


class CursorStore(Protocol):
    """A place that keeps a last event ID."""

    def load(self) -> str:
        """The ID to go on from; empty if there is none."""
        ...

    def save(self, id: str) -> Awaitable[None] | None:
        """Keep an ID. It may be a coroutine function, for `AsyncEventSource` only."""
        ...

    def flush(self) -> Awaitable[None] | None:
        """Write an ID that is not written yet. The source calls this when it is closed."""
        ...


class CursorFile:
    """A file with the last event ID. It is replaced atomically: no reader and no crash ever finds half a file.

    Args:
        path: the file; the first save creates it.
        interval: the least seconds between two saves; closing the source saves the rest. After a crash, the events of
            up to this time come again. 0 saves after each event, which costs about 50 microseconds.

    The file survives a crash of the process. It is not forced onto the disk, so after a power cut it may hold an older
    ID: then events come again, and none is lost.
    """

    def __init__(self, path: str | os.PathLike[str], *, interval: float = 0.0) -> None:
        self.path: Path = Path(path)
        self.interval = interval
        check_not_negative(self, "seconds", "interval")
        self._held: str | None = None
        self._written = float("-inf")
        # Any thread may call `close`, which flushes, while another one saves.
        self._lock = threading.Lock()

    def load(self) -> str:
        """The ID in the file; empty if there is none.

        Raises:
            ValueError: the file is no cursor's.
            OSError: it can't be read, or there is no folder for it: better now than with the first event.
        """
        try:
            return self.path.read_text("utf-8").removesuffix("\n")
        except FileNotFoundError:
            if not self.path.parent.is_dir():
                folder = str(self.path.parent)
                raise FileNotFoundError(errno.ENOENT, "there is no such folder for a cursor", folder) from None
            return ""
        except UnicodeDecodeError:
            raise ValueError(
                f"{self.path} is no file of a cursor: it is not UTF-8. Name another, or remove it to begin without"
            ) from None

    def save(self, id: str) -> None:
        with self._lock:
            self._held = id
            if not self.interval or time.monotonic() - self._written >= self.interval:
                self._write(id)

    def flush(self) -> None:
        with self._lock:
            if self._held is not None:
                self._write(self._held)

    def _write(self, id: str) -> None:
        try:
            descriptor, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                    file.write(f"{id}\n")
                os.replace(name, self.path)
            except BaseException:
                os.unlink(name)
                raise
        except OSError as error:  # it names the file beside this one, or none
            error.filename, error.filename2 = str(self.path), None
            raise
        self._held = None
        self._written = time.monotonic()


class CursorCall:
    """Calls a function with each ID that is to be kept."""

    def __init__(self, call: Callable[[str], Awaitable[None] | None]) -> None:
        self._call = call

    def load(self) -> str:
        return ""

    def save(self, id: str) -> Awaitable[None] | None:
        return self._call(id)

    def flush(self) -> None:
        """Nothing is left to write."""


Cursor = CursorStore | Callable[[str], Awaitable[None] | None] | str | os.PathLike[str]


def cursor_store(cursor: Cursor | None) -> CursorStore | None:
    """Makes a store of what the user gave as `cursor`."""
    if cursor is None:
        return None
    if isinstance(cursor, (str, os.PathLike)):
        return CursorFile(cursor)
    if callable(cursor) and not isinstance(cursor, type):
        return CursorCall(cursor)
    if isinstance(cursor, type) or not all(callable(getattr(cursor, name, None)) for name in ("load", "save", "flush")):
        raise TypeError(f"cursor is a path, a CursorStore or a function that gets each ID, not {shown(cursor)}")
    check_plain("CursorStore.load", cursor.load)
    return cursor


def kept(store: CursorStore | None) -> str:
    """The ID that a store has; empty if there is none.

    Raises:
        TypeError: it has something else, such as the number that a database made of it.
    """
    id: object = store.load() if store is not None else None
    if id is None:
        return ""
    check_kind("what CursorStore.load returns", id, str)
    return str(id)
