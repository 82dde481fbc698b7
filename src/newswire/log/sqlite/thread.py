"""A thread that owns one connection to the log's file and does one thing after the other.

The SQLite log has two: one writes, one reads; the event loop never waits for a disk. A thread starts with the first
job, opens its connection when it needs it, opens it again after an error that may come from the connection, and ends
with `close`. An event loop asks for jobs, and their results go back to it.

Everything that is put comes to an end: it is done, it fails, or it is refused because the thread has ended. If a thread
dies (of a `SystemExit` or a `MemoryError` in the wrong place), what it had is refused, and the next job starts another.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from newswire.errors import Closed, LogCorrupt, LogUnavailable, NewswireError
from newswire.log import native
from newswire.log.sqlite.file import LogFile
from newswire.log.sqlite.fork import Working

logger: logging.Logger = logging.getLogger("newswire.log")

T = TypeVar("T")


class DatabaseJob(Generic[T]):
    """Something to do with the connection.

    Attributes:
        call: does it.
        done: gets the result.
        over: called once, in some thread, when it was done, has failed or was refused.
    """

    __slots__ = ("call", "done", "over")

    def __init__(
        self,
        call: Callable[[sqlite3.Connection], T],
        done: asyncio.Future[T] | None = None,
        over: Callable[[], object] | None = None,
    ) -> None:
        self.call: Callable[[sqlite3.Connection], T] = call
        self.done: asyncio.Future[T] | None = done
        self.over: Callable[[], object] | None = over

    def succeed(self, result: T) -> None:
        """It was done."""
        if self.done is not None:
            call_in(self.done.get_loop(), succeed, self.done, result)
        if self.over is not None:
            self.over()

    def fail(self, error: BaseException) -> None:
        """It could not be done."""
        if self.done is not None:
            call_in(self.done.get_loop(), _fail, self.done, error)
        if self.over is not None:
            self.over()


class DatabaseThread:
    """A thread and its connection. Subclasses say what a turn is."""

    name = "newswire log"

    def __init__(self, file: LogFile) -> None:
        self.file = file
        self._queue: queue.SimpleQueue[Any] = native.simple_queue()
        self._lock = native.lock()  # guards the next four, and that nothing is queued behind the end
        self._thread: native.Thread | None = None
        self._ending = False
        self._ended = False
        self._awaiting_end: list[asyncio.Future[None]] = []
        self._taken: list[Any] = []  # items that were taken from the queue and have not come to an end
        self._connection: sqlite3.Connection | None = None
        self.working: Working = Working()

    # -- for the event loop

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Do `call` in the thread. If the caller is cancelled it is done all the same.

        Raises:
            LogUnavailable, LogCorrupt: the file can't be used.
            Closed: the thread has ended, or is about to.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.put(DatabaseJob(call, done))
        return await done

    def put(self, item: object) -> None:
        """Queue something for the thread, which is started if it is not there. If it can't be queued it is refused."""
        try:
            with self._lock:
                if self._ending:
                    raise Closed("the log is closed")
                if self._thread is None:
                    self._start()
                self._enqueue(item)
        except NewswireError as error:
            self._refuse(item, error)

    def start(self) -> None:
        """Start the thread if it is not there; `put` does it too.

        Raises:
            LogUnavailable: it can't be started.
        """
        with self._lock:
            if not self._ending and self._thread is None:
                self._start()

    def _start(self) -> None:
        thread = native.Thread(self._main, self.name)
        self.file.enter()
        try:
            thread.start()
        except RuntimeError as error:
            self.file.leave()
            raise LogUnavailable(
                f"the log {self.file.path} needs a thread, and there can't be more: {error}"
            ) from error
        self._thread = thread

    def end(self) -> None:
        """Let the thread end once it has done what is queued. Does not wait."""
        with self._lock:
            self._ending = True
            if self._thread is None:
                self._ended = True
            else:
                self._enqueue(None)

    def _enqueue(self, item: object) -> None:
        self._queue.put(item)

    async def close(self) -> None:
        """Let the thread end, and wait until it has. What is put from now on is refused."""
        self.end()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            thread = self._thread
            if self._ended:
                ended.set_result(None)
            else:
                self._awaiting_end.append(ended)
        await ended
        if thread is not None:
            thread.join()

    # -- in the thread

    def _main(self) -> None:
        error: NewswireError = Closed("the log is closed")
        try:
            working = self.working.lock
            more = True
            while more:
                item = self._take()
                with working:
                    more = self._turn(item)
                del item  # nothing is held while the next is waited for
        except BaseException as died:  # the outermost frame of the thread
            logger.critical("%s of %s died; the next call starts another", self.name, self.file.path, exc_info=True)
            error = LogUnavailable(f"a thread of the log {self.file.path} died of {died!r}: try again")
            error.__cause__ = died
        finally:
            with self.working.lock:
                self._disconnect()
                self.file.leave()
            self._over(error)

    def _over(self, error: NewswireError) -> None:
        """Refuse what is left, and let those go on that wait for the end."""
        with self._lock:
            left, self._taken = self._taken, []
            with suppress(queue.Empty):
                while True:
                    left.append(self._queue.get_nowait())
            self._thread = None
            waiting: list[asyncio.Future[None]] = []
            if self._ending:
                self._ended = True
                waiting, self._awaiting_end = self._awaiting_end, waiting
        for item in left:
            if item is not None:
                self._refuse(item, error)
        for future in waiting:
            call_in(future.get_loop(), succeed, future, None)

    def _refuse(self, item: Any, error: NewswireError) -> None:
        """Let an item fail that was not done; called in any thread."""
        item.fail(error)

    def _take(self) -> Any:
        """Wait for something to do. Nothing here may touch the file: it is what a fork waits for."""
        raise NotImplementedError

    def _turn(self, item: Any) -> bool:
        """Do what was taken.

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
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if isinstance(explained, LogCorrupt) or code in _BROKEN:
                self._disconnect()
            elif code == sqlite3.SQLITE_BUSY and self._ending and self._connection is not None:
                self._connection.execute("PRAGMA busy_timeout = 0")  # a process that stops waits for a lock once
            raise explained from error

    def do(self, job: DatabaseJob[Any]) -> None:
        """Do a job and tell who asked."""
        try:
            result = self.attempt(job.call)
        except Exception as error:  # the outermost frame of a job: the thread goes on
            job.fail(error)
        else:
            job.succeed(result)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self.file.close(connection)


# Kinds of errors after which a connection is not used again: the next job opens another.
_BROKEN = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY}


def call_in(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    """Call back in the event loop."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:  # the loop was closed before the log: no one waits any more
        pass


def succeed(future: asyncio.Future[T], result: T) -> None:
    """Give `future` its result, unless no one waits any more."""
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
