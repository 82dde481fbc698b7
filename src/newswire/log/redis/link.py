"""Connections to the server, and what they find there: which life of the log goes on.

A `Link` is one connection, made when it is needed and made again after it broke. Each time it has a look first: a
server process that is another one (it was started again, or a replica took over) may have lost the newest events, and
so may one that knows less than this process has seen. Then the log begins another life, and all who share the `Server`
hear of it. No password is ever in what is raised or logged here.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry as NoRetry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from newswire.errors import LogCorrupt, LogError, LogUnavailable
from newswire.log.position import new_epoch
from newswire.log.redis.scripts import ENTER, KEYS, Script
from newswire.log.server import LinkLost, RemoteServer, no_log, text_of

_pack: Callable[[Any], bytes] | None
try:
    from hiredis import pack_command as _pack
except ImportError:  # redis-py without its extra: slower, and as right
    _pack = None

logger: logging.Logger = logging.getLogger("newswire.log")

_Command: TypeAlias = tuple[str | bytes | int, ...]

# What a server answers to requests that it will serve later, or that another server has to: redis-py's classes of
# errors, and the first words of what it has no class for.
_LATER: Final = (
    AskError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_LATER_WORDS: Final = re.compile("BUSY|MISCONF|NOREPLICAS|READONLY|ERR max number of clients")
_MOVES: Final = 4  # from one member of a cluster to the other
_EVICTS: Final = b"maxmemory_policy:allkeys-"
EVICTS: Final = "throws events away when its memory is full"  # a server with this policy
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_RUN: Final = re.compile(rb"\brun_id:(\w+)")


class _Moved(LogUnavailable):
    """Another member of the cluster has the log; the server knows it now."""


class Server(RemoteServer):
    """What all connections of an engine share, and where they lead to.

    A member of a cluster that does not have the log says which one has it; sentinels know who is the master now.

    Args:
        url: where the server is; see `RedisLog`.
        prefix: of all keys.
        timeout: seconds to wait for a connection or an answer.
        create: whether to make a log where there is none.

    Attributes:
        keys: the fixed keys.
        refusal: why another life of the log, which has to begin before anything is stored, could not begin, in the
            server's words. Empty: it need not.
    """

    refusals: tuple[type[Exception], ...] = AuthenticationError, NoPermissionError
    asks_for = "this user or password"

    def __init__(self, url: str, prefix: str, timeout: float, create: bool = True) -> None:
        self._pool, self._sentinels, self._master = _parse(url)
        self._seed = {name: self._pool.connection_kwargs.get(name) for name in ("host", "port")}
        super().__init__(f"{self._master or '{host}:{port}'.format(**self._seed)} ({prefix[1:-2]})", timeout, create)
        self.prefix = prefix
        self.keys: tuple[str, ...] = tuple(prefix + key for key in KEYS)
        self.refusal: str = ""
        self._warned = False

    async def connect(self) -> AbstractConnection:
        """A new connection."""
        if self._master:
            host, port = await self._find_master()
            self._pool.connection_kwargs.update(host=host, port=port)
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    def moved(self, host: str, port: int) -> None:
        """Another member of the cluster has the log."""
        self._pool.connection_kwargs.update(host=host or self._pool.connection_kwargs["host"], port=port)

    async def _find_master(self) -> tuple[str, int]:
        kwargs = {**self._pool.connection_kwargs, "username": None, "password": None, "db": 0}
        failure: Exception = ConnectionError("no sentinel knows the master")
        for host, port in self._sentinels:
            connection = self._pool.connection_class(**{**kwargs, "host": host, "port": port})
            try:
                async with asyncio.timeout(min(self.timeout, 1.0)):
                    await connection.connect()  # type: ignore[no-untyped-call]
                    await connection.send_command("SENTINEL", "get-master-addr-by-name", self._master)
                    found = await connection.read_response(disable_decoding=True)
                if found:
                    return found[0].decode(), int(found[1])
            except (RedisError, OSError) as error:
                failure = error
            finally:
                await connection.disconnect(nowait=True)
        raise failure

    def failed(self, error: Exception) -> LogUnavailable:
        """See `RemoteServer.failed`."""
        if not self._master:
            self._pool.connection_kwargs.update(self._seed)
        return super().failed(error)

    def look_at(self, info: bytes) -> None:
        """Warn, once, of a server that throws keys away."""
        if not self._warned and _EVICTS in info and b"\nmaxmemory:0\r" not in info:
            self._warned = True
            logger.warning("the server %s %s: set maxmemory-policy to noeviction", self.name, EVICTS)

    async def enter(self, link: Link, run: bytes) -> None:
        """Find out which life of the log goes on, and begin another if it has to be."""
        proposed = new_epoch()
        known = self.epoch, self.seen, self._lives
        epoch, latest, lives, *refusal = await link.run(ENTER, (), run, proposed, *known, int(self.create))
        if not epoch:
            raise no_log(f"on {self.name}")
        self.refusal = refusal[0].decode("utf-8", "replace") if refusal else ""
        self.made = self.made or lives.decode() == f"{proposed}:0"
        self.found(epoch.decode(), int(latest), lives.decode())


class Link:
    """One connection. Several calls at a time are sent one after the other, and answered in this order."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: AbstractConnection | None = None
        self._run = b""  # the server process
        self._lock = asyncio.Lock()  # held where something is sent
        self._reading = asyncio.Lock()  # held where an answer is awaited; each asks for it as soon as it was sent

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        if self._connection is None or self._run != self._server.run:
            return False
        # redis-py does not see that asyncio has closed it. From Python 3.12 on to write to it raises AttributeError, or
        # leaves its descriptor in the loop's selector: the next connection with that number never hears of an answer.
        reader, writer = self._connection._reader, self._connection._writer
        if reader is None or writer is None or writer.is_closing():
            return False
        # The server has closed it: what would be sent now could not be known to have failed.
        return not reader.at_eof()

    async def call(
        self,
        script: Script,
        keys: Iterable[str],
        *arguments: str | bytes | int,
        on_sent: Callable[[], object] | None = None,
    ) -> Any:
        """Run a script.

        Args:
            keys: without their prefix, beside the fixed ones.
            on_sent: called when the server has it to do, for work that need not wait for the answer. Another call may
                be sent before the answer is there.

        Raises:
            LinkLost: it was sent, and there is no answer.
            LogUnavailable: it was not.
            LogError: the server refused it.
        """
        if on_sent is None:
            async with self._lock:
                await self._connect()
                return await self.run(script, keys, *arguments)
        return await self._call(script, self._command(keys, arguments), on_sent)

    async def _call(self, script: Script, command: _Command, on_sent: Callable[[], object]) -> Any:
        lock, held = self._lock, True
        connection = self._connection if self.is_open else None

        def sent() -> None:
            nonlocal held
            held = False
            lock.release()
            on_sent()

        await lock.acquire()
        try:
            if connection is None:
                await self._connect()
            elif connection is not self._connection or not self.is_open:
                raise LinkLost(f"the connection to {self._server.name} broke")  # what was sent before goes first
            return (await self._exchange([("EVALSHA", script.sha, *command)], 0.0, sent))[0]
        except (NoScriptError, OutOfMemoryError) as error:
            refused = error
        finally:
            if held:
                lock.release()
        async with lock:
            await self._connect()
            return await self._in_full(script, command, refused)

    async def exchange(self, *commands: tuple[str | bytes | int, ...], patience: float = 0.0) -> list[Any]:
        """Send commands, and wait for all answers. `patience` comes on top of the server's timeout."""
        async with self._lock:
            await self._connect()
            return await self._exchange(commands, patience)

    async def enter(self) -> None:
        """Look again which life of the log goes on."""
        async with self._lock:
            if not await self._connect():
                await self._server.enter(self, self._run)

    async def settle(self) -> None:
        """Before anything is stored: begin the life of the log that has to begin.

        Raises:
            LogUnavailable: it can't begin, since the server lets nothing be written.
        """
        if self._server.refusal:
            await self.enter()
            if self._server.refusal:
                raise self._refused(ResponseError(self._server.refusal))

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _leave(self, connection: AbstractConnection) -> None:
        """Close a connection that is of no use any more, unless another one has taken its place already."""
        if connection is self._connection:
            await self.close()

    async def _connect(self) -> bool:
        """Returns whether a connection had to be made."""
        if self.is_open:
            return False
        await self.close()
        server = self._server
        server.check_pause()
        for attempt in range(_MOVES):
            try:
                async with asyncio.timeout(server.timeout):
                    self._connection = await server.connect()
                [info] = await self._exchange([("INFO", "server", "memory")], 0.0)
                found = _RUN.search(info)
                self._run = found[1] if found else b"unknown"
                server.look_at(info)
                await server.enter(self, self._run)
                server.run = self._run
                break
            except (RedisError, OSError, LogError) as error:
                await self.close()
                if not isinstance(error, _Moved) or attempt == _MOVES - 1:
                    raise server.failed(error) from None
            except BaseException:
                await self.close()
                raise
        server.reached()
        return True

    async def run(
        self,
        script: Script,
        own: Iterable[str],
        *arguments: str | bytes | int,
    ) -> Any:
        """As `call`, on a connection that is there."""
        command = self._command(own, arguments)
        try:
            return (await self._exchange([("EVALSHA", script.sha, *command)], 0.0))[0]
        except (NoScriptError, OutOfMemoryError) as error:
            return await self._in_full(script, command, error)

    async def _in_full(self, script: Script, command: _Command, refused: NoScriptError | OutOfMemoryError) -> Any:
        """Run a script that the server did not know, or had no memory for: then its first write was refused."""
        try:
            if isinstance(refused, NoScriptError):
                return (await self._exchange([("EVAL", script.text, *command)], 0.0))[0]
        except OutOfMemoryError as error:
            refused = error
        if script.full is None:
            raise self._refused(refused) from None
        return (await self._exchange([("EVAL", script.full, *command)], 0.0))[0]

    def _command(self, own: Iterable[str], arguments: Sequence[str | bytes | int]) -> _Command:
        prefix = self._server.prefix
        keys = [*self._server.keys, *[prefix + key for key in own]]
        return len(keys), *keys, *arguments

    async def _exchange(
        self,
        commands: Sequence[tuple[str | bytes | int, ...]],
        patience: float,
        on_sent: Callable[[], object] | None = None,
    ) -> list[Any]:
        connection = self._connection
        assert connection is not None
        try:
            if _pack is not None:
                packed: Any = b"".join([_pack(command) for command in commands])
            else:
                packed = [part for command in commands for part in connection.pack_command(*command)]
            async with asyncio.timeout(self._server.timeout + patience):
                try:
                    await connection.send_packed_command(packed, check_health=False)
                except (
                    AttributeError
                ) as error:  # Python 3.12's `writelines` on a transport that has lost its connection
                    raise ConnectionResetError("it was lost before") from error
                if on_sent is not None:
                    on_sent()
                async with self._reading:
                    return [await connection.read_response(disable_decoding=True) for _ in commands]
        except (NoScriptError, OutOfMemoryError):
            raise
        except ResponseError as error:
            refused = self._refused(error)
            if len(commands) > 1 or isinstance(refused, LogUnavailable):
                await self._leave(
                    connection
                )  # other answers are to come; or a new connection may lead to another server
            raise refused from None
        except (RedisError, OSError) as error:
            await self._leave(connection)
            raise LinkLost(f"the connection to {self._server.name} broke: {text_of(error)}") from None
        except BaseException:
            await self._leave(connection)
            raise

    def _refused(self, error: ResponseError) -> LogError:
        text = text_of(error)
        if isinstance(error, OutOfMemoryError):
            return LogUnavailable(
                f"the memory of {self._server.name} is full: raise its maxmemory, or keep less ({text})"
            )
        if isinstance(error, MovedError):
            self._server.moved(error.host, error.port)
            return _Moved(f"another member of the cluster has the log: {text}")
        if isinstance(error, NoPermissionError) or text.startswith(("NOPERM", "ACL failure")):  # of a script's commands
            keys = f" (the log's keys are ~{self._server.prefix}*)" if "access a key" in text else ""
            return LogUnavailable(f"the server {self._server.name} does not let this user do it: {text}{keys}")
        if "WRONGTYPE" in text:
            return LogCorrupt(f"keys of {self._server.name} are something else's: use another namespace ({text})")
        if isinstance(error, _LATER) or _LATER_WORDS.match(text):
            return LogUnavailable(f"the server {self._server.name} can't serve this now: {text}")
        return LogError(f"the server {self._server.name} failed: {text}")


def _parse(url: str) -> tuple[ConnectionPool, list[tuple[str, int]], str]:
    """What makes connections to a server, and the sentinels to ask for it, with the name by which they know it.

    Raises:
        ValueError: the URL can't be used. The message has no password in it.
    """
    try:
        parts = urlsplit(re.sub("^valkey", "redis", url, flags=re.IGNORECASE))
        query = dict(parse_qsl(parts.query))
        master = query.pop("sentinel", "")
        user, at, hosts = parts.netloc.rpartition("@")
        places = [
            (each.rpartition(":")[0] or each, int(each.rpartition(":")[2])) for each in hosts.split(",") if master
        ]
        netloc = f"{user}{at}{hosts.split(',')[0]}"
        pool = ConnectionPool.from_url(
            urlunsplit(parts._replace(netloc=netloc, query=urlencode(query))),
            protocol=2,
            retry=NoRetry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=None,
        )
        pool.connection_kwargs.setdefault("host", "localhost")
        pool.connection_kwargs.setdefault("port", 6379)
        pool.make_connection()  # type: ignore[no-untyped-call]  # an option that it does not know
        missing = [name for name in _FILES if not Path(pool.connection_kwargs.get(name) or __file__).is_file()]
    except (ValueError, TypeError, AttributeError, RedisError):
        pass  # what they say may have a part of the password
    else:
        if missing:
            raise ValueError(f"{missing[0]}={pool.connection_kwargs[missing[0]]}: there is no such file")
        return pool, places, master
    raise ValueError("this Redis URL can't be used: look at its host, port, database and options")
