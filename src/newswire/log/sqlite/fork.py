"""Keeps SQLite out of trouble when the process forks. Every connection of the log is opened and closed through here.

SQLite can't be carried over a fork (https://www.sqlite.org/howtocorrupt.html, section 2.6). Its locks belong to the
parent; the child's copy of its memory says that the child holds them too. A connection that the child opens *again* to
a file that was open at the fork finds that memory and takes no lock. Then its parent may remove the write-ahead log
that the child stores events in. Nothing that a program can do in the child repairs this, so:

* A file that was open when the process forked, by whatever name, is refused in the child and in its children.
* The child leaves what it inherited as it is, for ever: closing a connection would touch the parent's file.
* A fork waits until no thread of a log is in the middle of something, so that the child gets no lock of SQLite's that
  no one will release: logs on other files work in the child.
* A program in C (uWSGI) may fork without telling Python. Its child notices at the first use.

A file that is not open at the fork is not concerned: make the log before the fork, and use it in the child first.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeAlias

from newswire import posix
from newswire.errors import LogUnavailable
from newswire.log import native

Identity: TypeAlias = tuple[int, int]  # device and inode

# How long a fork waits for the threads. They take milliseconds, unless another process holds the file.
_PATIENCE: Final = 1.0


class _State:
    """What is open in one process, whose parent had open what `before` says."""

    def __init__(self, before: _State | None = None) -> None:
        self.pid = os.getpid()
        self.lock = native.lock()
        self.children: dict[int, _State] = {}  # of a fork that Python was not told of, by process: at most one here
        self.connections: dict[int, tuple[sqlite3.Connection, Identity]] = {}
        self.descriptors: set[int] = set()
        self.working: weakref.WeakSet[Working] = weakref.WeakSet()
        self.carried: dict[Identity, int] = {}  # files that were open at a fork, and in which process
        if before is not None:
            opened = {identity: before.pid for _, identity in before.connections.values()}
            self.carried = before.carried | opened


class Working:
    """What a thread holds while it works with a connection: a fork waits for its end.

    Attributes:
        lock: held meanwhile.
    """

    def __init__(self) -> None:
        self.lock: Any = native.lock()
        state = _here()
        with state.lock:
            state.working.add(self)


_state = _State()
_forking = threading.local()


def _here() -> _State:
    """What is open in this process, also if it was forked without a word to Python."""
    before = _state
    if before.pid == os.getpid():
        return before
    made = _State(before)
    found = before.children.setdefault(made.pid, made)  # several threads may come here at once
    if found is made:
        _begin(before, made)
    return found


def connect(path: str, patience: float) -> tuple[sqlite3.Connection, Identity]:
    """Open a connection, and make the file if there is none, readable by its owner only.

    Returns:
        the connection, and which file it has open.

    Raises:
        LogUnavailable: the file was open when this process was forked.
        sqlite3.Error, OSError: it can't be opened.
    """
    with suppress(ImportError):
        import ctypes  # noqa: F401 - so that the child of a fork need not: see `_leak`
    state = _here()
    with state.lock:  # between this and the next fork the connection is known
        _make(path)
        with suppress(OSError):
            check_not_carried(path)
        connection = sqlite3.connect(
            path,
            timeout=patience,
            isolation_level=None,  # transactions begin where we say so
            check_same_thread=False,
            cached_statements=300,
        )
        try:
            identity = identity_of(path)
        except OSError:
            connection.close()
            raise
        state.connections[id(connection)] = (connection, identity)
        return connection, identity


def close(connection: sqlite3.Connection) -> None:
    """Close a connection that `connect` has opened."""
    with suppress(sqlite3.Error):
        connection.close()
    state = _here()
    with state.lock:
        state.connections.pop(id(connection), None)


def open_descriptor(path: str, flags: int = os.O_RDONLY) -> int:
    """Open a file to hold a lock on it, which a child of this process does not hold; see `close_descriptor`.

    Args:
        flags: of `os.open`. A file that is made is its owner's only.
    """
    state = _here()
    with state.lock:
        descriptor = os.open(path, flags | posix.OPEN, 0o600)
        state.descriptors.add(descriptor)
        return descriptor


def add_descriptor(descriptor: int) -> None:
    """Have a descriptor closed in the children of this process; see `close_descriptor`."""
    state = _here()
    with state.lock:
        state.descriptors.add(descriptor)


def close_descriptor(descriptor: int) -> None:
    """Close what `open_descriptor` has opened, or `add_descriptor` was given."""
    state = _here()
    with state.lock:
        state.descriptors.discard(descriptor)
        os.close(descriptor)


def descriptor_of(file: Identity) -> int | None:
    """The descriptor by which SQLite has a file open in this process; None if there is none, or the system can't tell.

    It is SQLite's: read at a place, never close it. The caller has a connection that keeps it open.
    """
    with _here().lock:  # nothing here opens such a file meanwhile
        return next(_descriptors(file), None)


@contextmanager
def kept_closed(path: str) -> Iterator[bool]:
    """Keep this process from opening a file within the block; gives whether it does not have it open.

    SQLite's locks are POSIX's: closing a descriptor of a file drops all that the process has on it. So only then may
    anything but SQLite open the database or its index.

    Raises:
        OSError: there is no such file.
    """
    state = _here()
    with state.lock:
        database = identity_of(path)
        ours = any(identity == database for _, identity in state.connections.values())
        yield not ours and not _is_open(database)


def _is_open(file: Identity) -> bool:
    """Whether anything in this process has a file open: the application may have connections of its own."""
    return next(_descriptors(file), None) is not None


def _descriptors(file: Identity) -> Iterator[int]:
    try:
        descriptors = os.listdir("/dev/fd")
    except OSError:
        return
    for descriptor in descriptors:
        with suppress(OSError, ValueError):
            found = os.fstat(int(descriptor))
            if (found.st_dev, found.st_ino) == file:
                yield int(descriptor)


def check_not_carried(path: str) -> None:
    """See that the file at `path` was not open when this process was forked.

    Raises:
        LogUnavailable: it was.
        OSError: there is none.
    """
    carried_over = _here().carried
    if carried_over:
        parent = carried_over.get(identity_of(path))
        if parent is not None:
            raise carried(path, parent)


def carried(path: str, parent: int) -> LogUnavailable:
    """The error for a file that was open at a fork."""
    return LogUnavailable(
        f"the log {path} was open in process {parent} when that forked process {os.getpid()}, and SQLite can't share "
        "it over a fork: fork first and use the log then, or start the child as a new program (subprocess, "
        "multiprocessing's 'spawn' or 'forkserver'), or publish in the parent"
    )


def identity_of(path: str) -> Identity:
    """Which file is at `path`."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _make(path: str) -> None:
    # SQLite gives the files that it makes beside it the mode of this one. What can't be made SQLite will explain.
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | posix.OPEN, 0o600)
        try:
            posix.fchmod(descriptor, 0o600)  # whatever the umask
        finally:
            os.close(descriptor)


# -- at a fork


def _before() -> None:
    give_up = time.monotonic() + _PATIENCE
    _forking.held = []
    state = _here()
    locks = [state.lock, *(working.lock for working in state.working)]
    for lock in locks:
        if lock.acquire(timeout=max(give_up - time.monotonic(), 0)):
            _forking.held.append(lock)


def _after_in_parent() -> None:
    for lock in reversed(_forking.held):
        lock.release()
    _forking.held = []


def _after_in_child() -> None:
    _begin(_state, _State(_state))
    _after_in_parent()


def _begin(before: _State, state: _State) -> None:
    """Begin in the child of a fork, and leave what its parent had open as it is."""
    global _state
    for connection, _ in before.connections.values():
        _leak(connection)
    for descriptor in before.descriptors:
        with suppress(OSError):
            os.close(descriptor)  # else the child would hold its parent's lock
    _state = state


def _leak(connection: sqlite3.Connection) -> None:
    """Keep an object to the end of the process and beyond: the interpreter's end would close the connection."""
    with suppress(ImportError):
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


posix.at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
