"""`newswire_outbox`: what an application's own statements and triggers insert events into. Used by the schema alone.

    INSERT INTO newswire_outbox (channel, data, event) VALUES ('orders', '{"id": 1}', 'created')

It is a view, and a trigger of it appends each row to the log, within the transaction of whoever inserts. SQLite has
one writer at a time: so the offset after the newest is right, and the order of offsets is the order of commits. Rows
need no second transaction that moves them, and so no process that could die before it does.

A row that can't be an event must not make an application's transaction fail, least of all in a trigger: another trigger
sets it aside in `newswire_refused`, and a process that follows the log logs it. What is refused is what `Hub.publish`
refuses; `tests/log/test_sqlite_outbox.py` compares the two.

Two traps of SQLite's: the conflict clause of the outermost statement (`INSERT OR REPLACE INTO orders`) counts in all
triggers under it, so nothing here may rely on a conflict; and text in SQLite may be no UTF-8.
"""

from __future__ import annotations

from typing import Final

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
