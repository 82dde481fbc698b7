"""A thread that owns one connection to the log's file and does what it is asked, one thing after the other.

The SQLite log has two: one writes, one reads; the event loop never waits for a disk. A thread starts with the first
job, opens its connection when it needs it, opens it again after an error that may come from the connection, and ends
with `close`. Jobs are asked for in an event loop; their results go back to the loop that asked.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from newswire.errors import LogCorrupt
from newswire.log.sqlite_file import LogFile, roll_back

T = TypeVar("T")


class Job(Generic[T]):
    """Something to do with the connection; `done` gets what comes of it."""

    __slots__ = ("call", "done")

    def __init__(self, call: Callable[[sqlite3.Connection], T], done: asyncio.Future[T] | None) -> None:
        self.call = call
        self.done = done


class DatabaseThread:
    """A thread and its connection. Subclasses say what a turn is."""

    name = "newswire log"

    def __init__(self, file: LogFile) -> None:
        self.file = file
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards the next three
        self._thread: threading.Thread | None = None
        self._ended = False
        self._awaiting_end: list[asyncio.Future[None]] = []
        self._connection: sqlite3.Connection | None = None

    # -- for the event loop

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Do `call` in the thread. If the caller is cancelled it is done all the same.

        Raises:
            LogUnavailable, LogCorrupt: the file can't be used.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.put(Job(call, done))
        return await done

    def put(self, item: object) -> None:
        """Queue something for the thread, which is started if it is not there."""
        self._queue.put(item)
        self.start()

    def start(self) -> None:
        """Start the thread if it is not there; `put` does it too."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._main, name=self.name, daemon=True)
                    self._thread.start()

    def end(self) -> None:
        """Let the thread end once it has done what is queued. Does not wait."""
        if self._thread is not None:
            self._queue.put(None)

    async def close(self) -> None:
        """Let the thread end, and wait until it has. Nothing may be queued any more."""
        thread = self._thread
        if thread is None:
            return
        self.end()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._ended:
                ended.set_result(None)
            else:
                self._awaiting_end.append(ended)
        await ended
        thread.join()

    # -- in the thread

    def _main(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            self._disconnect()
            with self._lock:
                self._ended = True
                for waiting in self._awaiting_end:
                    tell(waiting.get_loop(), succeed, waiting, None)

    def _turn(self) -> bool:
        """Wait for something to do and do it.

        Returns:
            False when the thread is to end.
        """
        raise NotImplementedError

    def connection(self) -> sqlite3.Connection:
        """The connection, opened if need be, to the file that was opened first."""
        if self._connection is None:
            self._connection = self.file.connect()
        else:
            self.file.check()
        return self._connection

    def attempt(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Do `call`, with errors told as newswire's."""
        try:
            return call(self.connection())
        except sqlite3.Error as error:
            explained = self.file.explain(error)
            if isinstance(explained, LogCorrupt) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN:
                self._disconnect()
            raise explained from error

    def do(self, job: Job[Any]) -> None:
        """Do a job and tell who asked."""
        try:
            result = self.attempt(job.call)
        except Exception as error:  # the outermost frame of a job: the thread goes on
            if job.done is not None:
                tell(job.done.get_loop(), _fail, job.done, error)
        else:
            if job.done is not None:
                tell(job.done.get_loop(), succeed, job.done, result)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            roll_back(connection)
            with suppress(sqlite3.Error):
                connection.close()


# Kinds of errors after which a connection is not used again: the next job opens another.
_BROKEN = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY}


def tell(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    """Call back in the event loop."""
    with suppress(RuntimeError):  # the loop was closed before the log: nobody waits any more
        loop.call_soon_threadsafe(call, *args)


def succeed(future: asyncio.Future[T], result: T) -> None:
    """Give `future` its result, unless nobody waits any more."""
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
