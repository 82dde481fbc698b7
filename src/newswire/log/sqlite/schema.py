"""The tables of the SQLite log's file, as the steps that lead to them. Used by `LogFile` when it opens the file.

A new file takes all steps, an older one those that it lacks: both end with the same tables. A released step never
changes; what comes later is a further step. The file may have an application's tables too, so ours have names that
begin with `newswire_`, and the application's own `user_version` and `application_id` stay as they are. (Files of
earlier versions had other names, and counted their steps in `user_version`.)

    meta      one row: the log's epoch, and the numbers that outlive the rows they are about
    channels  id, name, `lost`: the offset of the newest event of the channel that retention removed, and what it has
    forgotten what channels had lost that are no rows any more; see `newswire.log.forgotten`
    events    offset (the key), channel, size of data in bytes, time, type (NULL is `message`), data
    lives     the epochs that the log has had, and the offset after which each began; see `newswire.log.position`
    tokens    of batches that publishers may store again; see `newswire.log.engine`
    outbox    a view that an application inserts events into; see `newswire.log.sqlite.outbox_view`
    refused   what it inserted that can't be an event
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from newswire.errors import LogCorrupt
from newswire.log.position import Life, Lives, new_epoch
from newswire.log.sqlite.outbox_view import OUTBOX

APPLICATION_ID: Final = 0x6E657773  # "news": of files of earlier versions

# Each step is a tuple of statements, run in one transaction. They may call `new_epoch()`. `{}` is what the names of the
# tables begin with: in files of earlier versions, nothing.
STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE {}meta (
            epoch TEXT NOT NULL,
            floor INTEGER NOT NULL DEFAULT 0,       -- offsets up to here were used, whatever `events` has
            trims INTEGER NOT NULL DEFAULT 0,       -- counts what retention did: dates what was derived from the rows
            forgets INTEGER NOT NULL DEFAULT 0,     -- counts removals of channels: ids read before may be gone
            forgotten INTEGER NOT NULL DEFAULT 0,   -- the newest `lost` of a channel that was removed
            keeper TEXT NOT NULL DEFAULT '',        -- whose background retention runs …
            keeper_until REAL NOT NULL DEFAULT 0    -- … until when, if it does not say so again
        )""",
        """CREATE TABLE {}channels (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            lost INTEGER NOT NULL DEFAULT 0
        )""",
        """CREATE TABLE {}events (
            offset INTEGER PRIMARY KEY,
            channel INTEGER NOT NULL,
            size INTEGER NOT NULL,
            time REAL NOT NULL,
            type TEXT,
            data TEXT NOT NULL
        )""",
        "CREATE INDEX {}events_by_channel ON {}events (channel)",  # and by offset: SQLite ends every index with the key
        "INSERT INTO {}meta (epoch) VALUES (new_epoch())",
    ),
    (
        """CREATE TABLE {}lives (
            number INTEGER PRIMARY KEY,             -- in the order in which they began
            epoch TEXT NOT NULL,
            after INTEGER NOT NULL,                 -- the newest offset when it began
            time REAL NOT NULL                      -- when it began, for people
        )""",
        "INSERT INTO {}lives (epoch, after, time) SELECT epoch, 0, 0 FROM {}meta",
    ),
    (
        # Of the events up to here each is counted in its channel; counted and removed in the same transactions.
        "ALTER TABLE {}meta ADD COLUMN counted INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE {}channels ADD COLUMN events INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE {}channels ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0",
        # `Page.doubt` of this channel: its name was forgotten before, perhaps.
        "ALTER TABLE {}channels ADD COLUMN doubt INTEGER NOT NULL DEFAULT 0",
        # Retention left it nothing. It may have had events since: appending does not look.
        "ALTER TABLE {}channels ADD COLUMN empty INTEGER NOT NULL DEFAULT 0",
        "UPDATE {}channels SET empty = 1 WHERE NOT EXISTS (SELECT 1 FROM {}events WHERE channel = {}channels.id)",
        "CREATE INDEX {}channels_by_loss ON {}channels (lost) WHERE lost > 0",
        "CREATE INDEX {}channels_by_loss_empty ON {}channels (lost) WHERE empty",
        "CREATE TABLE {}forgotten (shape TEXT PRIMARY KEY, lost INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO {}forgotten SELECT '>', forgotten FROM {}meta WHERE forgotten > 0",
    ),
    (
        """CREATE TABLE {}tokens (
            number INTEGER PRIMARY KEY,             -- in the order in which they came
            token TEXT NOT NULL UNIQUE,
            first INTEGER NOT NULL,                 -- the offset of the first event of its batch
            time REAL NOT NULL
        )""",
    ),
    (
        # The number of the steps taken, for the tables have got names that are ours alone.
        "ALTER TABLE newswire_meta ADD COLUMN format INTEGER NOT NULL DEFAULT 0",
        # How many events the token's batch has; 0: it is of an earlier version, and no one knows.
        "ALTER TABLE newswire_tokens ADD COLUMN events INTEGER NOT NULL DEFAULT 0",
        *OUTBOX,
    ),
)
_RENAMED: Final = 4  # steps, after which the tables got their names
_RENAME: Final = (
    *(
        f"ALTER TABLE {name} RENAME TO newswire_{name}"
        for name in ("meta", "channels", "events", "lives", "tokens", "forgotten")
    ),
    "DROP INDEX events_by_channel",
    "DROP INDEX channels_by_loss",
    "DROP INDEX channels_by_loss_empty",
    "CREATE INDEX newswire_events_by_channel ON newswire_events (channel)",
    "CREATE INDEX newswire_channels_by_loss ON newswire_channels (lost) WHERE lost > 0",
    "CREATE INDEX newswire_channels_by_loss_empty ON newswire_channels (lost) WHERE empty",
)

# An expression on `newswire_meta`: the newest offset ever used, 0 if none.
NEWEST: Final = "max(floor, coalesce((SELECT max(offset) FROM newswire_events), 0))"


# Positions of more lives than this are not known any more: they get a gap.
_LIVES_KEPT: Final = 10_000


def lives_of(connection: sqlite3.Connection) -> Lives:
    """The lives that the file knows.

    Raises:
        LogCorrupt: none.
    """
    found = connection.execute("SELECT epoch, after FROM newswire_lives ORDER BY number").fetchall()
    if not found:
        raise LogCorrupt("the log has lost its epochs: restore it, or move it away to begin a new log")
    return Lives([Life(*row) for row in found])


def begin_life(connection: sqlite3.Connection, now: float) -> None:
    """Begin another life after the newest event. The connection is in a transaction, which holds the write lock."""
    execute = connection.execute
    execute(
        f"INSERT INTO newswire_lives (epoch, after, time) SELECT ?, {NEWEST}, ? FROM newswire_meta", (new_epoch(), now)
    )
    execute("UPDATE newswire_meta SET epoch = (SELECT epoch FROM newswire_lives ORDER BY number DESC LIMIT 1)")
    execute("DELETE FROM newswire_lives WHERE number <= (SELECT max(number) FROM newswire_lives) - ?", (_LIVES_KEPT,))


def is_ours(connection: sqlite3.Connection) -> bool:
    """Whether the file has a log, of this version or another."""
    query = """SELECT application_id = ? OR EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'newswire_meta')
               FROM pragma_application_id"""
    return bool(connection.execute(query, (APPLICATION_ID,)).fetchone()[0])


def version_of(connection: sqlite3.Connection) -> int:
    """How many steps the file has taken."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'newswire_meta'").fetchone() is not None:
        found = connection.execute("SELECT format FROM newswire_meta").fetchone()
        return len(STEPS) if found is None else int(found[0])
    return int(connection.execute("PRAGMA user_version").fetchone()[0]) if is_ours(connection) else 0


def version_of_file(path: str) -> int | None:
    """How many steps a file has taken that may not be there, or is no log yet: then None."""
    if not os.path.exists(path) or not os.path.getsize(path):
        return None
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True)) as connection:
        return version_of(connection) or None
    return None


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that the file lacks; the connection is in a transaction, which holds the write lock."""
    execute = connection.execute
    connection.create_function("new_epoch", 0, new_epoch)
    version = version_of(connection)
    old = 0 < version <= _RENAMED
    prefix = "" if old else "newswire_"
    for number, step in enumerate(STEPS[version:], version):
        if number == _RENAMED and old:
            prefix = "newswire_"
            for statement in _RENAME:
                execute(statement)
        for statement in step:
            execute(statement.replace("{}", prefix))
    execute("UPDATE newswire_meta SET format = ?", (len(STEPS),))
    if old:
        execute(f"PRAGMA user_version = {len(STEPS)}")  # an earlier version that opens it says what is the matter
