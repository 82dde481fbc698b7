"""What `newswire log info` and `newswire log copy` need of a PostgreSQL database: above all, what of it survives.

A copy of another log: what was lost is read out of one, and events at given offsets go into one; see `Engine.restore`.
A part is one transaction, under the lock of the log.
"""

from __future__ import annotations

from typing import Final

from newswire.errors import LogError
from newswire.log.engine import Copied, Info, Losses
from newswire.log.position import lives_text
from newswire.log.postgres.link import PostgresLink, PostgresServer
from newswire.log.retention import Rules

# The settings that decide what survives. NULL: this server has no such setting, or this user may not see it.
_SETTINGS: Final = ("synchronous_commit", "fsync", "full_page_writes", "synchronous_standby_names", "wal_level")
_ASK: Final = "SELECT name, current_setting(name, true) FROM unnest($1::text[]) AS u (name)"
_SIZE: Final = """
    SELECT (SELECT count(*) FROM @schema@.events), pg_total_relation_size('@schema@.events'),
        current_setting('server_version')"""
_ASIDE: Final = """
    SELECT (SELECT count(*) FROM @schema@.outbox WHERE aside IS NOT NULL), (SELECT count(*) FROM @schema@.refused)"""
_UNLOGGED: Final = """
    SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND relpersistence = 'u'"""
_REPLICAS: Final = "SELECT count(*) FROM pg_stat_replication"


def _aside(schema: str, stuck: int, refused: int) -> list[str]:
    """What became of rows of the outbox that did not go into the log."""
    risks = []
    if stuck:
        risks.append(
            f"{stuck:,} of the outbox's rows could not be moved into the log: the column aside of {schema}.outbox says "
            "why. To try again, set it to NULL, and tx to DEFAULT"
        )
    if refused:
        risks.append(f"{refused:,} of the outbox's rows were no events: {schema}.refused has them, with the reason")
    return risks


def _risks(settings: dict[str, str], unlogged: str) -> list[str]:
    risks = []
    if unlogged:
        risks.append(f"a crash of the server empties tables that are UNLOGGED ({unlogged}): ALTER TABLE … SET LOGGED")
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


_LIVES_BYTES: Final = 4000  # as in enter.sql
_LOCK: Final = "SELECT pg_advisory_xact_lock(@log@)"
_STATE: Final = """
    SELECT epoch, lives, greatest(floor, coalesce((SELECT max(number) FROM @schema@.events), 0)) FROM @schema@.life"""
_ADOPT: Final = "UPDATE @schema@.life SET epoch = $1, lives = $2, floor = greatest(floor, $3)"
_INSERT: Final = """
    INSERT INTO @schema@.events (number, time, size, channel, event, data)
    SELECT n, t, octet_length(d), c, e, d
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[]) AS u (n, t, c, e, d) WHERE n > $6"""
_LOSE: Final = """
    INSERT INTO @schema@.channels AS c (name, lost, empty)
    SELECT n, l, NOT EXISTS (SELECT FROM @schema@.events AS e WHERE e.channel = n)
    FROM unnest($1::text[], $2::bigint[]) AS u (n, l)
    ON CONFLICT (name) DO UPDATE SET lost = greatest(c.lost, excluded.lost), empty = excluded.empty"""
_FORGET: Final = """
    INSERT INTO @schema@.shapes AS s (shape, lost) SELECT * FROM unnest($1::text[], $2::bigint[]) AS u (shape, lost)
    ON CONFLICT (shape) DO UPDATE SET lost = greatest(s.lost, excluded.lost)"""
# Which channels were there before the first was forgotten is not known here.
_FORGOT: Final = "UPDATE @schema@.kept SET forgets = forgets + 1, forgot = 0"


class PostgresAdmin:
    """Says what survives, and reads and writes what a copy needs.

    Args:
        link: for it.
    """

    def __init__(self, server: PostgresServer, link: PostgresLink, rules: Rules) -> None:
        self._server = server
        self._link = link
        self._rules = rules

    async def info(self) -> Info:
        """See `Engine.info`."""
        link = self._link
        [[events, size, version]] = await link.call(_SIZE)
        unlogged = ", ".join(name for (name,) in await link.call(_UNLOGGED, link.schema.quoted))
        [[stuck, refused]] = await link.call(_ASIDE)
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
            risks=_risks(settings, unlogged) + _aside(link.schema.quoted, stuck, refused),
            retention=str(self._rules) if self._rules else "",
            events=events,
            size=size,
        )

    async def losses(self) -> Losses:
        """See `Engine.losses`."""
        link = self._link
        channels = await link.call("SELECT name, lost FROM @schema@.channels WHERE lost > 0")
        shapes: dict[str, int] = dict(map(tuple, await link.call("SELECT shape, lost FROM @schema@.shapes")))
        [[doubt]] = await link.call("SELECT doubt FROM @schema@.kept")
        if doubt:
            shapes[">"] = max(doubt, shapes.get(">", 0))
        return Losses(dict(map(tuple, channels)), shapes)

    async def restore(self, copied: Copied) -> None:
        """Store a part of another log.

        Raises:
            LogError: the log has events of its own, or has lost a part that came earlier.
        """
        server, link = self._server, self._link
        lives = lives_text(copied.lives.all, _LIVES_BYTES)
        await link.settle()
        async with link.transaction() as run:
            await run(_LOCK)
            [[epoch, known, latest]] = await run(_STATE)
            ours = {each.partition(":")[0] for each in known.split(",")}
            if epoch != copied.lives.epoch and latest and ours.isdisjoint(life.epoch for life in copied.lives.all):
                raise LogError(f"the log in {server.name} has events of its own: copy into another schema or namespace")
            copied.check_end(f"the log in {server.name}", latest)
            entries = copied.entries
            await run(
                _INSERT,
                [entry.offset for entry in entries],
                [round(entry.time * 1e6) for entry in entries],
                [entry.channel for entry in entries],
                [None if entry.event == "message" else entry.event for entry in entries],
                [entry.data for entry in entries],
                latest,
            )
            await run(_ADOPT, copied.lives.epoch, lives, copied.through)
            if copied.losses is not None:
                channels, shapes = copied.losses.channels, copied.losses.shapes
                await run(_LOSE, list(channels), list(channels.values()))
                if shapes:
                    await run(_FORGET, list(shapes), list(shapes.values()))
                    await run(_FORGOT)
            await run("SELECT pg_notify('@channel@', $1)", copied.lives.epoch)
        server.adopt(copied.lives.epoch, max(latest, copied.through), lives)
