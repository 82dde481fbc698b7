"""A server of raw sockets in threads of its own: what `BadServer` and `ChaosProxy` have in common."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class SocketServer:
    """Listens on a free port of 127.0.0.1, from `with` to its end; each connection has a thread.

    A subclass says in `_serve` what a connection gets. The server closes the connection when `_serve` returns.

    Attributes:
        port: where it listens.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._count = 0
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]

    def _serve(self, peer: socket.socket, number: int) -> None:
        """Serve one connection; the first has the number 0. An OSError ends it silently: the peer has left."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        with self._lock:
            waiting = [self._listener, *self._open]
        for each in waiting:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # no longer connected
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _keep(self, connection: socket.socket) -> None:
        """Shut this one down, too, when the server stops."""
        with self._lock:
            self._open.add(connection)

    def _drop(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name=f"newswire {type(self).__name__}", daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._keep(peer)
            number, self._count = self._count, self._count + 1
            self._start(self._run, peer, number)

    def _run(self, peer: socket.socket, number: int) -> None:
        try:
            self._serve(peer, number)
        except OSError:
            pass  # the peer was faster
        finally:
            self._drop(peer)


def reset(connection: socket.socket) -> None:
    """Make the next `close` send RST, as a crashed or overloaded machine does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
