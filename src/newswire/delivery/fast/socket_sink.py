"""The direct path: a connection that the server lent to the hub.

No task, no coroutine an event: the hub's bytes go to the socket in one system call, and what the socket does not take
waits here as a reference to the shared bytes. The transport is handed one small piece at a time, only so that it tells
us when the peer reads again. Used by `newswire.delivery.uvicorn`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from newswire import posix
from newswire.hub.frames import Chunk
from newswire.hub.options import StreamOptions
from newswire.hub.sink import Sink

if TYPE_CHECKING:
    from newswire.hub.subscription import Subscription

# What a stalled connection holds in the transport. The rest of its chunk is shared with everyone who gets it.
_PIECE: Final = 16 * 2**10
# What a stalled peer costs in the kernel: enough for 100 ms at 10 Mbit/s, far from the default's 2.5 MB and more.
_SEND_BUFFER: Final = 128 * 2**10
_LAST_CHUNK: Final = b"0\r\n\r\n"  # RFC 9112, section 7.1

_SO_BUF_LOCK: Final = 72  # Linux, asm-generic/socket.h
_TCP_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_SNDBUF: Final = socket.SOL_SOCKET, socket.SO_SNDBUF
if posix.LINUX:
    _LOWAT: Final = socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT
    _USER_TIMEOUT: Final = socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT

Tuned: TypeAlias = tuple[int, ...]
_seen: dict[Tuned, Tuned] = {}  # nearly all sockets have the same options, so streams share one tuple

_write = os.write
_Socket = socket.SocketType


class DirectSink:
    """A sink on a transport.

    Args:
        transport: the connection.
        options: the stream's.
        head: the response's head, if it was not written to the transport: it goes out with the first chunk.
        chunked: whether the body is in chunked transfer coding.
        finished: called when an ended stream is written out, with the connection still whole.
    """

    __slots__ = (
        "_chunked",
        "_ending",
        "_fd",
        "_finished",
        "_head",
        "_paused",
        "_pushing",
        "_rest",
        "_transport",
        "_tuned",
        "subscription",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        options: StreamOptions,
        *,
        head: bytes,
        chunked: bool,
        finished: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._head = head  # empty once it is out
        self._chunked = chunked
        self._finished = finished
        self._rest: memoryview | None = None
        self._ending = False
        self._paused = False
        self._pushing = False
        self.subscription: Subscription | None = None
        self._fd = -1
        self._tuned: Tuned | None = None  # what the socket's options were before
        connection = transport.get_extra_info("socket")
        encrypted = transport.get_extra_info("sslcontext") is not None
        if connection is not None:
            if not encrypted:
                self._fd = connection.fileno()
            self._tuned = _tune(connection, options.write_timeout)
        # From here on every byte that the transport buffers is reported: pause_writing, and resume_writing when all
        # is out. The head may be in its buffer still. (A transport for TLS pauses at its limit, others above it.)
        transport.set_write_buffer_limits(high=1 if encrypted else 0, low=0)
        self._paused = bool(head) or transport.get_write_buffer_size() > 0

    def start(self, subscription: Subscription, options: StreamOptions, over: Sink | None = None) -> None:
        """Begin to serve `subscription`, which writes to this sink, or to the one `over` it."""
        self.subscription = subscription
        try:
            subscription.attach(over or self, options)
        except BaseException:
            self.cut()
            raise
        if self._head:  # there was nothing to send with it
            self._hold(b"")

    # -- called by the hub

    def write(self, chunk: Chunk) -> bool:
        data = (chunk.coded or chunk.chunked) if self._chunked else chunk.raw  # a property costs a call
        if self._fd < 0 or self._paused:
            return self._hold(data)
        try:
            sent = _write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:  # reset, or gone: the transport will find out too
            self._transport.abort()
            return False
        if sent == len(data):
            return True
        self._rest = memoryview(data)[sent:]
        return self._push()

    def end(self, last: Chunk | None) -> None:
        data = b"" if last is None else last.chunked if self._chunked else last.raw
        if self._chunked:
            data += _LAST_CHUNK
        self._ending = True
        if self._hold(data):
            self._done()

    def cut(self) -> None:
        self._rest = None
        self.subscription = None
        self._transport.abort()

    # -- called by the protocol

    def pause(self) -> None:
        """The transport buffers something."""
        self._paused = True

    def resume(self) -> None:
        """The transport has written out all that it buffered."""
        self._paused = False
        if self.subscription is None or self._pushing:
            return
        if not self._push():
            self.subscription.took_some()
        elif self._ending:
            self._done()
        else:
            self.subscription.resume()

    def lost(self) -> None:
        """The connection is gone."""
        self._rest = None
        self._fd = -1
        subscription, self.subscription = self.subscription, None
        if subscription is not None:
            subscription.ended()

    # -- inside

    def _hold(self, data: bytes) -> bool:
        if self._head:
            return self._begin(data)
        if self._rest is not None:
            data = bytes(self._rest) + data  # only the last words of a stream come while something is held
        self._rest = memoryview(data) if data else None
        return self._push()

    def _begin(self, data: bytes) -> bool:
        """Send the head, and `data` in the same write: each write wakes the peer."""
        data, self._head = self._head + data, b""
        self._paused = self._transport.get_write_buffer_size() > 0
        if self._fd >= 0 and not self._paused:
            try:
                data = data[_write(self._fd, data) :]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self._transport.abort()
                return False
        return self._hold(data)

    def _push(self) -> bool:
        """Hand on what is held, until the transport buffers. True when all is out."""
        transport = self._transport
        self._pushing = True  # a transport for TLS pauses and resumes within write()
        while (rest := self._rest) is not None and not self._paused:
            if transport.is_closing():
                self._rest = None
                break
            self._rest = rest[_PIECE:] if len(rest) > _PIECE else None
            transport.write(bytes(rest[:_PIECE]))
            if transport.get_write_buffer_size() > 0:
                self._paused = True
        self._pushing = False
        if transport.is_closing():
            return False
        return self._rest is None and not self._paused

    def _done(self) -> None:
        subscription, self.subscription = self.subscription, None
        if subscription is not None:
            subscription.ended()
        if self._tuned is not None:
            _restore(self._transport.get_extra_info("socket"), self._tuned)
        self._finished()


class _BoundedSink(DirectSink):
    """A sink that ends its stream with a goodbye after so many bytes: `StreamOptions.max_bytes`."""

    __slots__ = ("_room",)

    def __init__(self, transport: asyncio.Transport, options: StreamOptions, **more: Any) -> None:
        super().__init__(transport, options, **more)
        self._room = options.max_bytes or 0

    def write(self, chunk: Chunk) -> bool:
        more = super().write(chunk)
        before, self._room = self._room, self._room - len(chunk.raw)
        if self._room > 0:
            return more
        if before > 0:
            asyncio.get_running_loop().call_soon(self._enough)
        return False

    def _enough(self) -> None:
        if self.subscription is not None and not self._ending:
            self.subscription.goodbye()


def direct_sink(
    transport: asyncio.Transport,
    options: StreamOptions,
    *,
    head: bytes,
    chunked: bool,
    finished: Callable[[], None],
) -> DirectSink:
    """The sink for a stream; see `DirectSink`."""
    kind = DirectSink if options.max_bytes is None else _BoundedSink
    return kind(transport, options, head=head, chunked=chunked, finished=finished)


def _tune(connection: socket.socket, write_timeout: float | None) -> Tuned | None:
    """Set a socket's options for a stream. Returns what they were before."""
    family = connection.family
    if family not in _TCP_FAMILIES:
        return None
    # uvloop's sockets make a socket of Python's for each call, which costs more than the call: 30 µs a stream in all.
    own = _Socket(family, socket.SOCK_STREAM, 0, connection.fileno())
    get, put = own.getsockopt, own.setsockopt
    try:
        before: Tuned = (get(*_SNDBUF),)
        put(*_SNDBUF, _SEND_BUFFER)
        if posix.LINUX:
            before = before[0], get(*_LOWAT), get(*_USER_TIMEOUT)
            # Report the socket writable only when little is unsent: what is new overtakes nothing in the kernel.
            put(*_LOWAT, _PIECE)
            if write_timeout is not None:
                # A peer that vanished acknowledges nothing: the kernel gives up, though we wrote only heartbeats.
                put(*_USER_TIMEOUT, int(write_timeout * 1000))
    finally:
        own.detach()
    return _seen.setdefault(before, before) if len(_seen) < 100 else before


def _restore(connection: socket.socket, before: Tuned) -> None:
    """Undo `_tune`, for the next request on the connection."""
    try:
        if posix.LINUX:
            # The kernel doubles what it is given, and grows the buffer by itself again once it is unlocked.
            connection.setsockopt(*_SNDBUF, before[0] // 2)
            with contextlib.suppress(OSError):  # before Linux 5.14
                connection.setsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK, 0)
            connection.setsockopt(*_LOWAT, before[1])
            connection.setsockopt(*_USER_TIMEOUT, before[2])
        else:
            connection.setsockopt(*_SNDBUF, before[0])
    except OSError:  # the peer has left in this moment
        pass
