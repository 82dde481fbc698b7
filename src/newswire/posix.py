"""What only some systems have, and what newswire does without it: file locks, hooks at a fork, handlers of signals,
news of a file.

All other modules use what Windows (or, for a few things, macOS) lacks through this one, so that none of them asks which
system it is on. `NEWSWIRE_POSIX=off` in the environment leaves all of it out on any system, and newswire does what it
does where these things are missing. Tests run that way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

_ON: Final = os.environ.get("NEWSWIRE_POSIX") != "off"

LINUX: Final = _ON and sys.platform == "linux"
"""Whether sockets have Linux's options."""

HANGUP: Final[int | None] = getattr(signal, "SIGHUP", None) if _ON else None
"""The signal that asks a server to read its settings again; None where there is none."""

AF_UNIX: Final[int | None] = getattr(socket, "AF_UNIX", None) if _ON else None
"""The family of Unix sockets; None where there are none."""

OPEN: Final[int] = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOINHERIT", "O_BINARY"))
"""Flags for `os.open`: no child inherits the descriptor, and bytes are not changed on the way."""


def _module(name: str) -> Any:
    if _ON:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


_fcntl: Final = _module("fcntl")
_moving: Final = threading.Lock()  # held by the thread that moves the position of a descriptor, to read or write there


def flock(descriptor: int, *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file against other processes that do so, until it is closed.

    Raises:
        BlockingIOError: another has it locked.
        OSError: the system, or the file system, has no such locks.
    """
    if _fcntl is None:
        raise OSError(errno.ENOTSUP, "no locks on this system")
    kind = _fcntl.LOCK_SH if shared else _fcntl.LOCK_EX
    _fcntl.flock(descriptor, kind if wait else kind | _fcntl.LOCK_NB)


def fchmod(descriptor: int, mode: int) -> None:
    """Set who may use an open file; nothing where files have no such modes."""
    if _ON and hasattr(os, "fchmod"):
        os.fchmod(descriptor, mode)


def pread(descriptor: int, size: int, offset: int) -> bytes:
    """Read from a place in a file. Without the system's own call it moves the descriptor's position."""
    if _ON and hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    with _moving:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)


def pwrite(descriptor: int, data: bytes, offset: int) -> None:
    """Write to a place in a file, as `pread` reads."""
    if _ON and hasattr(os, "pwrite"):
        os.pwrite(descriptor, data, offset)
    else:
        with _moving:
            os.lseek(descriptor, offset, os.SEEK_SET)
            os.write(descriptor, data)


def read_proc(path: str) -> str:
    """What Linux says in a file below /proc.

    Raises:
        OSError: there is none.
    """
    if not LINUX:
        raise OSError(errno.ENOENT, "only Linux has it", path)
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class WriteWatch:
    """Waits for the next write to a file, of which Linux tells (inotify). Elsewhere files have to be looked at.

    One thread waits; others may wake it.

    Args:
        poll: makes a `select.poll`.

    Attributes:
        descriptors: what it has open.

    Raises:
        OSError: the system has no such thing, or not one more.
    """

    def __init__(self, poll: Callable[[], Any]) -> None:
        if not LINUX or not hasattr(os, "eventfd"):
            raise OSError(errno.ENOSYS, "only Linux has it")
        import ctypes

        try:
            library = ctypes.CDLL(None, use_errno=True)
            begin, self._add = library.inotify_init1, library.inotify_add_watch
        except AttributeError as error:
            raise OSError(errno.ENOSYS, "the C library lacks it") from error
        self._errno = ctypes.get_errno
        self._writes: int = self._checked(begin(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            self._woken: int = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            os.close(self._writes)
            raise
        self.descriptors: tuple[int, ...] = (self._writes, self._woken)
        self._poll = poll()
        for descriptor in self.descriptors:
            self._poll.register(descriptor, _POLLIN)

    def begin(self, path: str) -> None:
        """Watch a file, until the next write to it.

        Raises:
            OSError: it can't be watched.
        """
        self._checked(self._add(self._writes, os.fsencode(path), _IN_MODIFY | _IN_ONESHOT))

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until there is a write or somebody calls `wake`. Returns whether there was a write."""
        ready = {descriptor for descriptor, _ in self._poll.poll(math.ceil(seconds * 1000))}
        for descriptor in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, 4096)
        return self._writes in ready

    def wake(self) -> None:
        """Let `wait` return, now or when it is called next."""
        with contextlib.suppress(OSError):  # it was closed
            os.eventfd_write(self._woken, 1)

    def _checked(self, result: int) -> int:
        if result < 0:
            raise OSError(self._errno(), os.strerror(self._errno()))
        return result


_IN_MODIFY: Final = 0x00000002  # of <sys/inotify.h>
_IN_ONESHOT: Final = 0x80000000
_POLLIN: Final = 0x001


@contextlib.contextmanager
def single_keys(descriptor: int) -> Iterator[bool]:
    """Have a terminal pass on each key as it is pressed, within the block. Yields whether it does."""
    termios, tty = _module("termios"), _module("tty")
    if termios is None or tty is None:
        yield False
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield True
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def at_fork(**hooks: Callable[[], None]) -> None:
    """Have hooks called at each fork, as `os.register_at_fork` does; nothing where processes can't fork."""
    if _ON and hasattr(os, "register_at_fork"):
        os.register_at_fork(**hooks)


def on_signals(loop: asyncio.AbstractEventLoop, numbers: Iterable[int], call: Callable[[], object]) -> None:
    """Have the loop call when a signal arrives. Call it in the main thread."""
    for number in numbers:
        try:
            if not _ON:
                raise NotImplementedError
            loop.add_signal_handler(number, call)
        except NotImplementedError:  # Windows: Python's own handlers run between two steps of the loop
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))


def on_broken_pipe(loop: asyncio.AbstractEventLoop, descriptor: int, call: Callable[[], None]) -> None:
    """Have the loop call once the reader of a pipe has gone. Elsewhere the next write notices."""

    def gone() -> None:
        loop.remove_reader(descriptor)
        call()

    if _ON:
        with contextlib.suppress(NotImplementedError):
            loop.add_reader(descriptor, gone)  # a pipe's writing end becomes readable only when it breaks


def allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: each stream is a file, and the usual limit is 1,024."""
    resource = _module("resource")
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):  # macOS allows less than it says; then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
