"""The SQL of a trigger that publishes each change of a table in PostgreSQL; see `newswire.log.transactions`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from newswire.errors import LogError
from newswire.log.transactions import ChannelTemplate, name

# A table as the application writes it, and its columns.
TABLE: Final = """
    SELECT c.oid::regclass::text, n.nspname || '.' || c.relname, (
        SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    ) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p')"""


def triggers(schema: str, table: str, found: tuple[str, str, Sequence[str]], template: ChannelTemplate) -> str:
    """The statements that make the trigger and its function.

    Args:
        schema: the log's, quoted.
        table: as the caller named it.
        found: a row of `TABLE`.
        template: of the channel.

    Raises:
        LogError: the template names a column that the table has not.
    """
    shown, full, columns = found
    for column in template.columns:
        if column not in columns:
            raise LogError(f"the table {table!r} has no column {column!r}; it has {', '.join(columns)}")
    old, new = template.sql("OLD.{}::text"), template.sql("NEW.{}::text")
    function = _function(schema, full)
    outbox = f"INSERT INTO {schema}.outbox (channel, event, data)"
    return f"""CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $newswire$
DECLARE
    -- A name that can't be a channel's is set aside with its event: it never fails the application's transaction.
    old_channel text := CASE WHEN TG_OP <> 'INSERT' THEN coalesce({old}, '') END;
    new_channel text := CASE WHEN TG_OP <> 'DELETE' THEN coalesce({new}, '') END;
BEGIN
    IF TG_OP = 'UPDATE' AND OLD *= NEW THEN
        RETURN NULL;
    END IF;
    IF old_channel = new_channel THEN
        {outbox} VALUES (new_channel, 'update', row_to_json(NEW)::text);
        RETURN NULL;
    END IF;
    IF old_channel IS NOT NULL THEN
        {outbox} VALUES (old_channel, 'delete', row_to_json(OLD)::text);
    END IF;
    IF new_channel IS NOT NULL THEN
        {outbox} VALUES (new_channel, 'insert', row_to_json(NEW)::text);
    END IF;
    RETURN NULL;
END $newswire$;
CREATE OR REPLACE TRIGGER newswire_watch AFTER INSERT OR UPDATE OR DELETE ON {shown}
    FOR EACH ROW EXECUTE FUNCTION {function}();
"""


def remove(schema: str, found: tuple[str, str, Sequence[str]]) -> str:
    """The statements that remove the trigger and its function."""
    shown, full, _ = found
    return f"DROP TRIGGER IF EXISTS newswire_watch ON {shown};\nDROP FUNCTION IF EXISTS {_function(schema, full)}();\n"


def _function(schema: str, full: str) -> str:
    """The function for a table; a long name is cut, as PostgreSQL does, but stays another for each table."""
    found = f"watch_{full}"
    if len(found.encode()) > 63:
        digest = hashlib.blake2b(full.encode(), digest_size=8).hexdigest()
        found = f"{found.encode()[:46].decode('utf-8', 'ignore')}_{digest}"
    return f"{schema}.{name(found)}"
