"""Trouble that a whole process has to be in: no room, no rights. Exits with 0 if the log behaved.

python trouble.py full-limit|full-tmpfs|read-only-file|read-only-folder FOLDER
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from newswire.errors import LogUnavailable
from newswire.log.sqlite import SqliteLog
from newswire.testing.log_base import opened, publish, read_all
from newswire.wire.event import Event

ROOM = 4 * 2**20


async def full(path: Path, words: str, make_room: Callable[[], object]) -> None:
    """Fill it to the brim."""
    async with opened(SqliteLog(path)) as log:
        stored = 0
        with pytest.raises(LogUnavailable, match=words):
            while True:
                await log.append([("a", Event(f"{stored} {'x' * 50_000}")), ("b", Event(f"{stored}"))])
                stored += 1
        assert stored > 10
        for _ in range(3):  # as long as it is full
            with pytest.raises(LogUnavailable, match=words):
                await log.append([("a", Event("y" * 5_000_000)), ("b", Event("never"))])
        assert [entry.data for entry in await read_all(log, "b")] == [str(number) for number in range(stored)]
        make_room()
        await publish(log, "b", "room again")
        assert (await read_all(log, "b"))[-1].data == "room again"
    async with opened(SqliteLog(path)) as log:
        assert len(await read_all(log, "a")) == stored
        assert (await read_all(log, "b"))[-1].data == "room again"


def full_limit(folder: Path) -> None:
    """A limit on the size of files, which needs no special rights."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    make_room = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # noqa: E731
    asyncio.run(full(folder / "log.db", "reading or writing", make_room))


def full_tmpfs(folder: Path) -> None:
    """A real file system with no room."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={3 * ROOM}", "tmpfs", str(folder)], check=True)
    try:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(2 * ROOM))
        asyncio.run(full(folder / "log.db", "is full: free some space", ballast.unlink))
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        asyncio.run(open_full(folder / "log.db"))
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def open_full(path: Path) -> None:
    """Open it where there is no room for the files beside it."""
    async with opened(SqliteLog(path)) as log:
        with pytest.raises(LogUnavailable, match="is full: free some space"):
            await log.span()


async def read_only(path: Path, words: str) -> None:
    """Append to what can't be written to."""
    async with opened(SqliteLog(path)) as log:
        with pytest.raises(LogUnavailable, match=words):
            await publish(log, "a", "2")


def without_rights() -> None:
    """Root may write to anything: be another user."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def read_only_file(folder: Path) -> None:
    """The file is somebody else's."""
    path = folder / "log.db"
    asyncio.run(_make(path))
    path.chmod(0o444)
    folder.chmod(0o777)
    without_rights()
    asyncio.run(read_only(path, "can't be written to: check the permissions of the file and of its folder"))


def read_only_folder(folder: Path) -> None:
    """The folder is somebody else's."""
    folder.chmod(0o555)
    without_rights()
    asyncio.run(read_only(folder / "log.db", f"the folder {folder} can't be written to, and the log keeps files in it"))


async def _make(path: Path) -> None:
    async with opened(SqliteLog(path)) as log:
        await publish(log, "a", "1")


kinds = {
    "full-limit": full_limit,
    "full-tmpfs": full_tmpfs,
    "read-only-file": read_only_file,
    "read-only-folder": read_only_folder,
}
kinds[sys.argv[1]](Path(sys.argv[2]))
