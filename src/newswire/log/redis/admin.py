"""What `newswire log info` and `newswire log copy` need of a Valkey or Redis server: above all, what of it survives.

Managed servers often refuse `CONFIG`; then `INFO` says the most important, and the rest is unknown.

A copy of another log: what was lost is read out of one, and events at given offsets go into one; see `Engine.restore`.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from newswire.errors import LogError
from newswire.log.engine import Copied, Info, Losses
from newswire.log.position import lives_text
from newswire.log.redis.link import EVICTS, RedisLink, RedisServer
from newswire.log.redis.scripts import CHANNEL, KEYS, LOSE, RESTORE
from newswire.log.retention import Rules

_CONFIG: Final = ("appendonly", "appendfsync", "save", "min-replicas-to-write", "maxmemory", "maxmemory-policy")
_UNKNOWN: Final = "unknown (the server refuses CONFIG)"


async def _config(link: RedisLink) -> dict[str, str]:
    known: dict[str, str] = {}
    try:
        for name in _CONFIG:
            [pair] = await link.exchange(("CONFIG", "GET", name))
            known.update(
                zip((each.decode() for each in pair[::2]), (each.decode() for each in pair[1::2]), strict=True)
            )
    except LogError:
        return {}
    return known


async def _size(link: RedisLink, key: str) -> int | None:
    try:
        [size] = await link.exchange(("MEMORY", "USAGE", key))
    except LogError:  # this user may not ask
        return None
    return None if size is None else int(size)


def _risks(settings: dict[str, str], found: dict[str, str]) -> list[str]:
    risks = []
    saves = settings["save"]
    if settings["appendonly"] != "yes":
        if saves == "off":
            risks.append(
                "nothing is written to disk: every event is gone when the server's process ends. Set appendonly yes"
            )
        else:
            risks.append(
                f"a crash of the server takes all events since the last snapshot (save {saves}). Set appendonly yes"
            )
    elif settings["appendfsync"] == "everysec":
        risks.append(
            "a power cut, or a crash of the machine, can take the last two seconds: appendfsync is everysec. "
            "Set appendfsync always; with many publishers it costs little"
        )
    elif settings["appendfsync"] == "no":
        risks.append(
            "a power cut, or a crash of the machine, can take what the kernel has not written yet, half a minute or "
            "more: appendfsync is no. Set appendfsync always"
        )
    elif settings["appendfsync"] == _UNKNOWN:
        risks.append("how often events are synced to the disk is not known here: ask for CONFIG GET appendfsync")
    if found.get("aof_last_write_status") == "err" or found.get("aof_last_bgrewrite_status") == "err":
        risks.append("the server could not write its append-only file lately: look at its disk")
    if settings["replicas"] not in ("0", "unknown"):
        risks.append(
            "a replica that takes over lacks the newest events, which are acknowledged before it has them"
            + (
                ""
                if settings["min-replicas-to-write"] not in ("0", _UNKNOWN)
                else "; with min-replicas-to-write 0 also while no replica can be reached. Set it to 1"
            )
            + ". Readers then get a gap"
        )
    policy = settings["maxmemory-policy"]
    if policy.startswith("allkeys-") and settings["maxmemory"] != "no limit":
        risks.append(f"the server {EVICTS}: {policy}. Set maxmemory-policy noeviction")
    return risks


_AT_ONCE: Final = 2000  # channels with losses in one call
_LIVES_BYTES: Final = 4000  # as in enter.lua


class RedisAdmin:
    """Says what survives, and reads and writes what a copy needs beside events.

    Args:
        link: for it.
    """

    def __init__(self, server: RedisServer, link: RedisLink, rules: Rules) -> None:
        self._server = server
        self._link = link
        self._rules = rules

    async def info(self) -> Info:
        """See `Engine.info`."""
        link, log = self._link, self._server.keys[KEYS.index("log")]
        [text], [count] = await link.exchange(("INFO", "everything")), await link.exchange(("XLEN", log))
        found = dict(line.split(":", 1) for line in text.decode("utf-8", "replace").splitlines() if ":" in line)
        known = await _config(link)
        settings = {
            "appendonly": known.get("appendonly", "yes" if found.get("aof_enabled") == "1" else "no"),
            "appendfsync": known.get("appendfsync", _UNKNOWN),
            "save": known.get("save", _UNKNOWN) or "off",
            "replicas": found.get("connected_slaves", "unknown"),
            "min-replicas-to-write": known.get("min-replicas-to-write", _UNKNOWN),
            "maxmemory": known.get("maxmemory", found.get("maxmemory", _UNKNOWN)),
            "maxmemory-policy": found.get("maxmemory_policy", known.get("maxmemory-policy", _UNKNOWN)),
        }
        if settings["maxmemory"] == "0":
            settings["maxmemory"] = "no limit"
        kind = "Valkey" if "valkey_version" in found else "Redis"
        version = found.get("valkey_version") or found.get("redis_version", "of an unknown version")
        return Info(
            storage=f"{kind} {version}, {found.get('role', 'unknown role')}",
            settings=settings,
            risks=_risks(settings, found),
            retention=str(self._rules) if self._rules else "",
            events=int(count),
            size=await _size(link, log),
        )

    async def losses(self) -> Losses:
        """See `Engine.losses`."""
        lost, shapes = (self._server.keys[KEYS.index(name)] for name in ("lost", "shapes"))
        channels, forgotten = await self._link.exchange(("ZRANGE", lost, 0, -1, "WITHSCORES"), ("HGETALL", shapes))
        return Losses(
            {name.decode(): int(offset) for name, offset in zip(channels[::2], channels[1::2], strict=True)},
            {shape.decode(): int(offset) for shape, offset in zip(forgotten[::2], forgotten[1::2], strict=True)},
        )

    async def restore(self, copied: Copied) -> None:
        """See `Engine.restore`."""
        places: dict[str, int] = {}
        arguments: list[str | int] = []
        for entry in copied.entries:
            place = places.setdefault(entry.channel, len(KEYS) + 1 + len(places))
            arguments += (place, entry.offset, entry.event, entry.data, round(entry.time * 1e6))
        keys = [CHANNEL + name for name in places]
        lives = lives_text(copied.lives.all, _LIVES_BYTES)
        head = (copied.lives.epoch, lives, copied.through, copied.after, len(copied.entries))
        await self._link.settle()
        stored, latest = await self._link.call(RESTORE, keys, *head, *arguments)
        if not stored:
            copied.check_end(f"the log on {self._server.name}", int(latest))
            raise LogError(f"the log on {self._server.name} has events of its own: copy into another namespace")
        if copied.losses is not None:
            await self._lose(copied.losses)
        self._server.adopt(copied.lives.epoch, int(latest), lives)

    async def _lose(self, losses: Losses) -> None:
        channels = iter(losses.channels.items())
        shapes = [part for item in losses.shapes.items() for part in item]
        while True:
            some = list(islice(channels, _AT_ONCE))
            names = [part for item in some for part in item]
            await self._link.call(LOSE, (), len(some), *names, *shapes)
            shapes = []
            if len(some) < _AT_ONCE:
                return
