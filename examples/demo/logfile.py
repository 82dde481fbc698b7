"""Following a log file as it is written: rotated, truncated, missing for a while, in the middle of a line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final

from examples.demo.outbox import Outbox

POLL_SECONDS: Final = 0.1
MAX_LINE: Final = 2000  # characters: for reading, and so that a batch stays far under the server's 1 MiB


class Tail:
    """The lines appended to a file since this was made.

    A file that is renamed away (rotation) is read to its end before the new one is begun; one that is cut short is
    read from its start. Between two looks at most one rotation is followed, which is what rotating by size or by day
    gives.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._open()
        self._rest = b""
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None

    def lines(self) -> list[str]:
        """The complete lines written since the last call."""
        found: list[bytes] = []
        if self._file is not None:
            if os.fstat(self._file.fileno()).st_size < self._file.tell():
                self._file.seek(0)
                self._rest = b""
            rotated = not self._is_current()  # asked before reading: what is written in between is not missed
            self._read(found)
            if rotated:
                self._file.close()
                if self._rest:
                    found.append(self._rest)
                    self._rest = b""
                self._file = None
        if self._file is None:
            self._file = self._open()
            if self._file is not None:
                self._read(found)
        return [line.decode(errors="replace") for line in found]

    def _is_current(self) -> bool:
        assert self._file is not None
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._file.fileno()))

    def _read(self, found: list[bytes]) -> None:
        assert self._file is not None
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        found += lines

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


async def follow(path: Path) -> AsyncIterator[str]:
    """Iterate over the lines appended to a file from now on."""
    tail = Tail(path)
    try:
        while True:
            for line in tail.lines():
                yield line
            await asyncio.sleep(POLL_SECONDS)
    finally:
        tail.close()


async def log_lines(outbox: Outbox, path: Path) -> None:
    """Publish the lines of a log file."""
    async for line in follow(path):
        outbox.put("line", line=line[:MAX_LINE])
