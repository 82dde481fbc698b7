"""The SQL of triggers that publish each change of a table of the SQLite file; see `newswire.log.watch`."""

from __future__ import annotations

import sqlite3
from typing import Final

from newswire.errors import LogError
from newswire.log.watch import ChannelTemplate, name, quoted

_COLUMNS: Final = 40  # to one `json_object`, which takes 127 arguments in every SQLite
_TRIGGERS: Final = ("insert", "update", "delete")


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table of the application's.

    Raises:
        LogError: there is no such table.
    """
    found = connection.execute("SELECT type FROM sqlite_master WHERE lower(name) = lower(?)", (table,)).fetchone()
    if found is None or found[0] != "table" or table.lower().startswith(("newswire_", "sqlite_")):
        raise LogError(f"the file has no table {table!r} of an application: make the table first")
    query = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid"
    return [column for (column,) in connection.execute(query, (table,)).fetchall()]


def triggers(table: str, columns: list[str], template: ChannelTemplate) -> str:
    """The statements that make the triggers.

    Raises:
        LogError: the template names a column that the table has not.
    """
    for column in template.columns:
        if column.lower() not in (each.lower() for each in columns):
            raise LogError(f"the table {table!r} has no column {column!r}; it has {', '.join(columns)}")
    old, new = template.sql("OLD.{}"), template.sql("NEW.{}")
    changed = " OR ".join(f"OLD.{name(each)} IS NOT NEW.{name(each)}" for each in columns)
    return (
        remove(table)
        + f"""
CREATE TRIGGER {_trigger(table, "insert")} AFTER INSERT ON {name(table)} BEGIN
    {_publish(new, "NEW", columns, "'insert'")};
END;

CREATE TRIGGER {_trigger(table, "update")} AFTER UPDATE ON {name(table)} WHEN {changed} BEGIN
    {_publish(old, "OLD", columns, "'delete'")}
    WHERE ({old}) IS NOT ({new});
    {_publish(new, "NEW", columns, f"CASE WHEN ({old}) IS ({new}) THEN 'update' ELSE 'insert' END")};
END;

CREATE TRIGGER {_trigger(table, "delete")} AFTER DELETE ON {name(table)} BEGIN
    {_publish(old, "OLD", columns, "'delete'")};
END;
"""
    )


def remove(table: str) -> str:
    """The statements that remove the triggers."""
    return "".join(f"DROP TRIGGER IF EXISTS {_trigger(table, what)};\n" for what in _TRIGGERS)


def _trigger(table: str, what: str) -> str:
    return name(f"newswire_watch_{table}_{what}")


def _publish(channel: str, row: str, columns: list[str], event: str) -> str:
    return f"""INSERT INTO newswire_outbox (channel, event, data)
    SELECT {channel}, {event}, {_object(row, columns)}"""


def _object(row: str, columns: list[str]) -> str:
    """An expression: the row as a JSON object, with blobs in hexadecimal digits."""
    parts = []
    for begin in range(0, len(columns), _COLUMNS):
        pairs = [
            f"{quoted(each)}, CASE typeof({row}.{name(each)}) WHEN 'blob' THEN hex({row}.{name(each)}) "
            f"ELSE {row}.{name(each)} END"
            for each in columns[begin : begin + _COLUMNS]
        ]
        parts.append(f"json_object({', '.join(pairs)})")
    if len(parts) == 1:
        return parts[0]
    inner = " || ',' || ".join(f"substr({part}, 2, length({part}) - 2)" for part in parts)
    return f"'{{' || {inner} || '}}'"
