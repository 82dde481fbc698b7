"""The log on a Valkey or Redis server, for hubs on many machines.

A batch is one atomic script, which gives the offsets: a stream's ids are the offsets of the log. What comes while the
server stores one group is the next group. One connection follows for the whole process. docs/engines.md says what such
a log can lose, and how to set the server up.

This file is what the event loop sees; `scripts` has what the server does.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence

from newswire.log.engine import EngineLimits
from newswire.log.log import Log
from newswire.log.redis.admin import RedisAdmin
from newswire.log.redis.link import RedisLink, RedisServer
from newswire.log.redis.pages import RedisPages
from newswire.log.redis.retention import RedisRetentionJob
from newswire.log.redis.scripts import CHANNEL, DROP
from newswire.log.redis.tail import RedisTail
from newswire.log.redis.writer import RedisWriter
from newswire.log.remote import Part, TailedEngine
from newswire.log.retention import RetentionRules, Rules
from newswire.log.server import make_log
from newswire.validate import check_flag, check_greater_than_0, check_kind

_NAMESPACE = re.compile(r"[^\s{}\x00-\x1f]{1,100}")
_DROPPED = 500  # events removed in one call: some milliseconds
_CHANNELS = 100


class RedisLog(Log):
    """A log on a Valkey or Redis server (7.0 or newer).

    Args:
        url: `redis://`, `rediss://` (TLS), `valkey://` or `valkeys://`, with user, password, database, and the options
            of redis-py's `from_url`. Any member of a cluster; or sentinels, with commas between them, and the name of
            the master in the option `sentinel`: `redis://one:26379,two:26379/0?sentinel=mymaster`.
        namespace: logs of different namespaces on one server see nothing of each other. All keys begin with it.
        retention: what to keep of each channel; enforced each second by one of the processes that share the log.
        timeout: seconds to wait for a connection or an answer. A batch whose answer was lost is tried again for three
            times as long.
        create: whether to make a log where there is none. Else `newswire log init` has to be run first.
        clock: what time it is, in seconds since the Unix epoch.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "newswire",
        retention: RetentionRules = None,
        timeout: float = 5.0,
        create: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(RedisEngine(url, namespace, retention, timeout, create, clock))


class RedisEngine(TailedEngine):
    """The engine of a `RedisLog`, which has the same arguments."""

    _server: RedisServer
    _retention: RedisRetentionJob

    # One script: while the server stores the next one, the hub sends on what is in this one.
    limits: EngineLimits = EngineLimits(group_events=128)
    atomic = True

    def __init__(
        self,
        url: str,
        namespace: str,
        retention: RetentionRules,
        timeout: float,
        create: bool,
        clock: Callable[[], float],
    ) -> None:
        check_kind("a log's URL", url, str)
        check_kind("namespace", namespace, str)
        check_greater_than_0("timeout", timeout)
        check_flag("create", create)
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError("a namespace is a text of up to 100 characters without white space and braces")
        self._url = url
        self._prefix = f"{{{namespace}}}:"
        self._timeout = timeout
        self._create = create
        self._rules = Rules(retention)
        self._clock = clock
        super().__init__()

    def _begin(self) -> None:
        server = self._server = RedisServer(self._url, self._prefix, self._timeout, self._create)
        tail = self._tail = RedisTail(server, lambda: writer)
        server.on_epoch = tail.restart
        writer = self._writer = RedisWriter(server, self.limits, self._clock, tail.stored)
        self._link = RedisLink(server)
        self._pages = RedisPages(server, self._link)
        self._admin = RedisAdmin(server, self._link, self._rules)
        self._retention = RedisRetentionJob(server, RedisLink(server), self._rules, self._clock)

    def _parts(self) -> Sequence[Part]:
        return self._retention, self._writer, self._tail, self._link

    def _started(self) -> None:
        self._retention.start()

    async def drop(self, cuts: Mapping[str, int]) -> int:
        """See `Engine.drop`."""
        self._enter()
        removed = 0
        names = list(cuts)
        for begin in range(0, len(names), _CHANNELS):
            some = names[begin : begin + _CHANNELS]
            keys = [CHANNEL + name for name in some]
            more = True
            while more:
                _, count, more = await self._link.call(DROP, keys, _DROPPED, *[cuts[name] for name in some])
                removed += count
        return removed

    # -- for operators

    async def init(self) -> str:
        """See `Engine.init`."""
        self._enter()
        return await make_log(self._server, self.span, "the log", f"on {self._server.name}")
