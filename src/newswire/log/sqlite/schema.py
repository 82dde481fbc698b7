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
    outbox    a view that an application's own statements and triggers insert events into
    refused   what it inserted that can't be an event

The outbox takes rows as in `INSERT INTO newswire_outbox (channel, data, event) VALUES ('orders', '{"id": 1}', 'new')`.
A trigger of the view appends each row to the log, within the transaction of whoever inserts. SQLite has one writer at a
time: so the offset after the newest is right, and the order of offsets is the order of commits. Rows need no second
transaction that moves them, and so no process that could die before it does.

A row that can't be an event must not make an application's transaction fail, least of all in a trigger: another trigger
sets it aside in `newswire_refused`, and a process that follows the log logs it. What is refused is what `Hub.publish`
refuses; `tests/log/test_sqlite_outbox_view.py` compares the two.

Two traps of SQLite's: the conflict clause of the outermost statement (`INSERT OR REPLACE INTO orders`) counts in all
triggers under it, so nothing here may rely on a conflict; and text in SQLite may be no UTF-8.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from newswire.errors import LogCorrupt
from newswire.log.position import Life, Lives, new_epoch

REFUSED_KEPT: Final = 1000
_DATA_BYTES: Final = 64 * 2**20  # as `Limits.event_bytes`
# How long, and how many, tokens are known; as in `newswire.log.engine`.
_TOKEN_SECONDS: Final = 600
_TOKENS_KEPT: Final = 100_000

# The characters that no channel's name has, as ranges and characters of GLOB's; NUL is looked for apart from that.
_FORBIDDEN: Final = " || ".join(
    f"char({first}) || '-' || char({last})" if last is not None else f"char({first})"
    for first, last in (
        (1, 32), (42, None), (47, None), (62, None), (127, 160), (5760, None), (8192, 8202), (8232, 8233), (8239, None),
        (8287, None), (12288, None),
    )
)  # fmt: skip


def _is_utf8(text: str) -> str:
    """A condition: what SQLite reads of a text, character by character, is that text."""
    return f"""({text} NOT GLOB '*[^' || char(1) || '-' || char(127) || ']*' OR {text} = (
        WITH RECURSIVE read (at, found) AS (
            SELECT 1, '' UNION ALL
            SELECT at + 1, found || char(unicode(substr({text}, at, 1))) FROM read WHERE at <= length({text})
        ) SELECT found FROM read ORDER BY at DESC LIMIT 1))"""


# What is wrong with a row; '' if nothing is. `CASE` looks at one after the other.
_WRONG: Final = f"""CASE
    WHEN typeof(NEW.channel) <> 'text' THEN 'its channel is no text'
    WHEN length(CAST(NEW.channel AS BLOB)) NOT BETWEEN 1 AND 255 THEN 'its channel has not 1 to 255 bytes'
    WHEN instr(NEW.channel, char(0)) OR NEW.channel GLOB '*[' || {_FORBIDDEN} || ']*' OR NOT {_is_utf8("NEW.channel")}
        THEN 'its channel has a forbidden character'
    WHEN NEW.channel GLOB '.*' OR NEW.channel GLOB '*.' OR instr(NEW.channel, '..')
        THEN 'its channel has an empty token'
    WHEN NEW.token IS NULL AND NEW.channel GLOB '$*' THEN 'its channel belongs to newswire'
    WHEN typeof(NEW.data) NOT IN ('text', 'integer', 'real') THEN 'its data is no text'
    WHEN length(CAST(NEW.data AS BLOB)) > {_DATA_BYTES} THEN 'its data is too large'
    WHEN NEW.event IS NULL THEN ''
    WHEN typeof(NEW.event) <> 'text' OR NEW.event = '' THEN 'its event type is no text'
    WHEN length(CAST(NEW.event AS BLOB)) > 4096 OR instr(NEW.event, char(0)) OR instr(NEW.event, char(10))
        OR instr(NEW.event, char(13)) OR NOT {_is_utf8("NEW.event")} THEN 'its event type has a forbidden character'
    WHEN NEW.event IN ('error', 'open') OR NEW.event GLOB 'newswire.*' THEN 'its event type is reserved'
    ELSE '' END"""

_NEWEST: Final = "max(floor, coalesce((SELECT max(offset) FROM newswire_events), 0))"
_NOW: Final = "round((julianday('now') - 2440587.5) * 86400, 3)"
_FIRST: Final = "substr(NEW.channel, 1, instr(NEW.channel || '.', '.') - 1)"  # the channel's first token
_DOTS: Final = "length(NEW.channel) - length(replace(NEW.channel, '.', ''))"
_REST: Final = f"replace(hex(zeroblob({_DOTS})), '00', '.*')"  # a `.*` for each further token
# The shapes under which a channel may have been forgotten; see `newswire.log.forgotten`.
_SHAPES: Final = f"""'>', CASE WHEN NEW.channel GLOB '$*' THEN '$' ELSE '*' END || {_REST},
    CASE WHEN instr(NEW.channel, '.') OR NEW.channel GLOB '$*' THEN {_FIRST} ELSE '*' END || {_REST}"""

OUTBOX: Final = (
    """CREATE TABLE newswire_refused (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        time REAL NOT NULL,
        wrong TEXT NOT NULL,                    -- what is wrong with it, in words
        channel, event, data                    -- as they came; of data the beginning
    )""",
    # `token` and `number` are for newswire itself: the number counts the rows of a batch.
    """CREATE VIEW newswire_outbox (channel, data, event, token, number) AS
       SELECT NULL, NULL, NULL, NULL, NULL WHERE 0""",
    f"""CREATE TRIGGER newswire_outbox_append INSTEAD OF INSERT ON newswire_outbox WHEN '' = {_WRONG} BEGIN
        INSERT INTO newswire_channels (name, doubt)
            SELECT NEW.channel, coalesce((SELECT max(lost) FROM newswire_forgotten WHERE shape IN ({_SHAPES})), 0)
            WHERE NOT EXISTS (SELECT 1 FROM newswire_channels WHERE name = NEW.channel);
        INSERT INTO newswire_events (offset, channel, size, time, type, data)
            SELECT {_NEWEST} + 1, (SELECT id FROM newswire_channels WHERE name = NEW.channel),
                   length(CAST(CAST(NEW.data AS TEXT) AS BLOB)), {_NOW}, nullif(NEW.event, 'message'),
                   CAST(NEW.data AS TEXT)
            FROM newswire_meta;
        INSERT INTO newswire_tokens (token, first, events, time)
            SELECT NEW.token, (SELECT max(offset) FROM newswire_events), 0, {_NOW} WHERE NEW.number = 0;
        UPDATE newswire_tokens SET events = events + 1 WHERE token = NEW.token;
        DELETE FROM newswire_tokens WHERE NEW.number = 0 AND (
            number <= (SELECT max(number) FROM newswire_tokens) - {_TOKENS_KEPT} OR number < (
                SELECT number FROM newswire_tokens WHERE time >= {_NOW} - {_TOKEN_SECONDS} ORDER BY number LIMIT 1));
    END""",
    f"""CREATE TRIGGER newswire_outbox_refuse INSTEAD OF INSERT ON newswire_outbox WHEN '' <> {_WRONG} BEGIN
        INSERT INTO newswire_refused (time, wrong, channel, event, data)
            SELECT {_NOW}, {_WRONG}, substr(NEW.channel, 1, 300), substr(NEW.event, 1, 300), substr(NEW.data, 1, 300);
        DELETE FROM newswire_refused WHERE number <= (SELECT max(number) FROM newswire_refused) - {REFUSED_KEPT};
    END""",
)


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
        # And by offset: SQLite ends every index with the key. A fifth to a third of an append's CPU. Without it, a
        # run's readers and all who read few channels would go over each newer event: 60,000 take 22 ms instead of 2.
        "CREATE INDEX {}events_by_channel ON {}events (channel)",
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
