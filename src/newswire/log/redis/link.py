"""Connections to the server, and what they find there: which life of the log goes on.

A `RedisLink` is one connection, made when it is needed and made again after it broke. Each time it has a look first: a
server process that is another one (it was started again, or a replica took over) may have lost the newest events, and
so may one that knows less than this process has seen. Then the log begins another life, and all who share the
`RedisServer` hear of it. No password is ever in what is raised or logged here.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry as NoRetry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from newswire.errors import LogCorrupt, LogError, LogUnavailable
from newswire.log.position import new_epoch
from newswire.log.redis.pipeline import Command, Pipeline, RedisRefused
from newswire.log.redis.scripts import ENTER, KEYS, Script
from newswire.log.server import LinkLost, RemoteServer, no_log, text_of
from newswire.redact import without_userinfo

logger: logging.Logger = logging.getLogger("newswire.log")

# How answers begin to requests that a server will serve later, or that another server has to.
_LATER: Final = re.compile(
    "ASK|BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|READONLY|TRYAGAIN|max number of clients"
)
_MOVES: Final = 4  # from one member of a cluster to the other
_EVICTS: Final = b"maxmemory_policy:allkeys-"
EVICTS: Final = "throws events away when its memory is full"  # a server with this policy
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_RUN: Final = re.compile(rb"\brun_id:(\w+)")


class _Moved(LogUnavailable):
    """Another member of the cluster has the log; the server knows it now."""


class RedisServer(RemoteServer):
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

    async def enter(self, call: Callable[..., Awaitable[Any]], run: bytes) -> None:
        """Find out which life of the log goes on, and begin another if it has to be."""
        proposed = new_epoch()
        known = self.epoch, self.seen, self._lives
        epoch, latest, lives, *refusal = await call(ENTER, (), run, proposed, *known, int(self.create))
        if not epoch:
            raise no_log(f"on {self.name}")
        self.refusal = refusal[0].decode("utf-8", "replace") if refusal else ""
        self.made = self.made or lives.decode() == f"{proposed}:0"
        self.found(epoch.decode(), int(latest), lives.decode())


class RedisLink:
    """One connection. Several calls at a time are sent one after the other, and answered in this order.

    Attributes:
        pipeline: the connection, once it has looked which life of the log goes on; None if there is none, as far as is
            known.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._pipeline: Pipeline | None = None
        self._run = b""  # the server process; empty until the connection has looked
        self._connecting = asyncio.Lock()

    @property
    def pipeline(self) -> Pipeline | None:
        """See the class."""
        pipeline = self._pipeline
        return pipeline if pipeline is not None and pipeline.is_open and self._run == self._server.run else None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self.pipeline is not None

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
            on_sent: called when the server has it to do, for work that need not wait for the answer.

        Raises:
            LinkLost: it was sent, and there is no answer.
            LogUnavailable: it was not.
            LogError: the server refused it.
        """
        pipeline = self.pipeline or await self._connected()
        return await self._run_script(pipeline, script, keys, arguments, on_sent)

    async def exchange(self, *commands: Command, patience: float = 0.0) -> list[Any]:
        """Send commands, and wait for all answers. `patience` comes on top of the server's timeout."""
        return await self._exchange(self.pipeline or await self._connected(), commands, patience)

    async def enter(self) -> None:
        """Look again which life of the log goes on."""
        async with self._connecting:
            if self.pipeline is None:
                await self._connect()
            else:
                await self._server.enter(self.run, self._run)

    async def settle(self) -> None:
        """Before anything is stored: begin the life of the log that has to begin.

        Raises:
            LogUnavailable: it can't begin, since the server lets nothing be written.
        """
        if self._server.refusal:
            await self.enter()
            if self._server.refusal:
                raise self._refused(self._server.refusal)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            await pipeline.close()

    async def _leave(self, pipeline: Pipeline) -> None:
        """Close a connection that is of no use any more."""
        if pipeline is self._pipeline:
            self._pipeline = None
        await pipeline.close()

    async def _connected(self) -> Pipeline:
        async with self._connecting:
            return self.pipeline or await self._connect()

    async def _connect(self) -> Pipeline:
        await self.close()
        self._run = b""
        server = self._server
        server.check_pause()
        for attempt in range(_MOVES):
            try:
                async with asyncio.timeout(server.timeout):
                    pipeline = self._pipeline = Pipeline(await server.connect())
                [info] = await self._exchange(pipeline, [("INFO", "server", "memory")])
                found = _RUN.search(info)
                run = found[1] if found else b"unknown"
                server.look_at(info)
                await server.enter(self.run, run)
                self._run = server.run = run
                break
            except (RedisError, OSError, LogError) as error:
                await self.close()
                if not isinstance(error, _Moved) or attempt == _MOVES - 1:
                    raise server.failed(error) from None
            except BaseException:
                await self.close()
                raise
        server.reached()
        return pipeline

    async def run(self, script: Script, own: Iterable[str], *arguments: str | bytes | int) -> Any:
        """As `call`, on a connection that is there."""
        pipeline = self._pipeline
        if pipeline is None:
            raise self._lost("it was closed")
        return await self._run_script(pipeline, script, own, arguments)

    async def _run_script(
        self,
        pipeline: Pipeline,
        script: Script,
        own: Iterable[str],
        arguments: Sequence[str | bytes | int],
        on_sent: Callable[[], object] | None = None,
    ) -> Any:
        prefix = self._server.prefix
        keys = [*self._server.keys, *[prefix + key for key in own]]
        command = len(keys), *keys, *arguments
        [answer] = await self._ask(pipeline, [("EVALSHA", script.sha, *command)], 0.0, on_sent)
        if isinstance(answer, RedisRefused) and _word(answer) == "NOSCRIPT":
            [answer] = await self._ask(pipeline, [("EVAL", script.text, *command)])
        # A server whose memory is full has refused the first thing that it writes.
        if isinstance(answer, RedisRefused) and _word(answer) == "OOM" and script.full is not None:
            [answer] = await self._ask(pipeline, [("EVAL", script.full, *command)])
        if isinstance(answer, RedisRefused):
            await self._refuse(pipeline, answer)
        return answer

    async def _exchange(self, pipeline: Pipeline, commands: Sequence[Command], patience: float = 0.0) -> list[Any]:
        answers = await self._ask(pipeline, commands, patience)
        for answer in answers:
            if isinstance(answer, RedisRefused):
                await self._refuse(pipeline, answer)
        return answers

    async def _ask(
        self,
        pipeline: Pipeline,
        commands: Sequence[Command],
        patience: float = 0.0,
        on_sent: Callable[[], object] | None = None,
    ) -> list[Any]:
        try:
            answers = pipeline.send(commands, self._server.timeout + patience)
            if on_sent is not None:
                on_sent()
            return await answers
        except OSError as error:
            await self._leave(pipeline)
            raise self._lost(text_of(error)) from None

    def _lost(self, why: str) -> LinkLost:
        return LinkLost(f"the connection to {self._server.name} broke: {why}")

    async def _refuse(self, pipeline: Pipeline, answer: RedisRefused) -> NoReturn:
        """Raise what an answer says."""
        refused = self._refused(str(answer))
        if isinstance(refused, LogUnavailable):  # a new connection may lead to another server
            await self._leave(pipeline)
        raise refused

    def _refused(self, text: str) -> LogError:
        server = self._server
        text = without_userinfo(" ".join(text.removeprefix("ERR ").split()))[:200]
        word = text.partition(" ")[0]
        if word == "OOM":
            return LogUnavailable(f"the memory of {server.name} is full: raise its maxmemory, or keep less ({text})")
        if word == "MOVED":
            host, _, port = text.split()[-1].rpartition(":")
            server.moved(host, int(port))
            return _Moved(f"another member of the cluster has the log: {text}")
        if word == "NOPERM" or text.startswith("ACL failure"):  # of a script's commands
            keys = f" (the log's keys are ~{server.prefix}*)" if "access a key" in text else ""
            return LogUnavailable(f"the server {server.name} does not let this user do it: {text}{keys}")
        if "WRONGTYPE" in text:
            return LogCorrupt(f"keys of {server.name} are something else's: use another namespace ({text})")
        if _LATER.match(text):
            return LogUnavailable(f"the server {server.name} can't serve this now: {text}")
        return LogError(f"the server {server.name} failed: {text}")


def _word(answer: RedisRefused) -> str:
    """The kind of an error."""
    return str(answer).partition(" ")[0]


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
