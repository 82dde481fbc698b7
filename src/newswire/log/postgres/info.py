"""What `newswire log info` says of a PostgreSQL database: above all, what of it survives."""

from __future__ import annotations

from typing import Final

from newswire.errors import LogError
from newswire.log.engine import Info
from newswire.log.postgres.link import Link

# The settings that decide what survives. NULL: this server has no such setting, or this user may not see it.
_SETTINGS: Final = ("synchronous_commit", "fsync", "full_page_writes", "synchronous_standby_names", "wal_level")
_ASK: Final = "SELECT name, current_setting(name, true) FROM unnest($1::text[]) AS u (name)"
_SIZE: Final = """
    SELECT (SELECT count(*) FROM @schema@.events), pg_total_relation_size('@schema@.events'),
        current_setting('server_version')"""
_REPLICAS: Final = "SELECT count(*) FROM pg_stat_replication"


async def info_of(link: Link, retention: str) -> Info:
    """See `Engine.info`."""
    [[events, size, version]] = await link.call(_SIZE)
    found = {name: value for name, value in await link.call(_ASK, list(_SETTINGS)) if value is not None}
    try:
        [[replicas]] = await link.call(_REPLICAS)
    except LogError:
        replicas = None
    settings = {**found, "replicas": "unknown" if replicas is None else str(replicas)}
    settings["synchronous_standby_names"] = settings.get("synchronous_standby_names") or "none"
    return Info(
        storage=f"PostgreSQL {version}",
        settings=settings,
        risks=_risks(settings),
        retention=retention,
        events=events,
        size=size,
    )


def _risks(settings: dict[str, str]) -> list[str]:
    risks = []
    commit = settings.get("synchronous_commit", "")
    if settings.get("fsync") == "off":
        risks.append("a power cut can damage the whole database: fsync is off. Set fsync on")
    if settings.get("full_page_writes") == "off":
        risks.append("a power cut in the midst of a write can damage pages: full_page_writes is off. Set it on")
    if commit == "off":
        risks.append(
            "a crash of the server can take the events of the last second: synchronous_commit is off. Set it on"
        )
    elif settings["replicas"] not in ("0", "unknown") and (
        settings["synchronous_standby_names"] == "none" or commit == "local"
    ):
        risks.append(
            "a replica that takes over lacks the newest events: commits don't wait for it. Set "
            "synchronous_standby_names, and synchronous_commit on. Without, readers get a gap"
        )
    return risks
