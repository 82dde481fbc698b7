"""The tables and functions of the log, as the steps that lead to them. Used by a `PostgresLink` when it enters the log.

A log has a schema of its own: `newswire`, or `newswire_NAMESPACE`. A new one takes all steps, an older one those that
it lacks; `life.version` counts them. A released step never changes; what comes later is a further step. The files of
the folder `sql` are the steps. What they do:

* `append` stores batches, and is the only thing besides `move` that gives offsets. Both do it under the advisory lock
  of the log, for the time of one transaction of our own, so offsets have no holes and are committed in their order.
* `enter` finds out which life of the log goes on; see `newswire.log.position`.
* `remove`, `drop_events`, `count_events` and `forget` are retention, under another lock.
* `newswire_publish` and `move` are the outbox; see `newswire.log.postgres.outbox`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from importlib.resources import files
from typing import Final

from newswire.log.engine import EngineLimits

STEPS: Final = (("tables", "enter", "append", "keep", "outbox"),)
_NAME: Final = re.compile(r"[\w.-]+")


class Schema:
    """The names of a log's things in its database.

    Args:
        schema: the schema's name.
        namespace: added to it, unless it is empty.
        limits: what an event may be.

    Attributes:
        name: the schema.
        quoted: the same, as SQL has it.
        channel: what NOTIFY uses.
        lead: the number of the advisory lock that the leader's session holds.
        log: that of the one under which offsets are given.
        keep: that of the one under which events are removed.

    Raises:
        ValueError: it can't be the name of a schema.
    """

    def __init__(self, schema: str, namespace: str, limits: EngineLimits) -> None:
        self.name: str = f"{schema}_{namespace}" if namespace else schema
        if not _NAME.fullmatch(self.name) or len(self.name.encode()) > 63 or self.name.startswith("pg_"):
            raise ValueError("a schema and namespace are letters, digits, '_', '-' and '.', at most 63 bytes together")
        self.quoted: str = f'"{self.name}"'
        self.channel: str = self.name
        self.lead: int = _number(f"{self.name} leader")
        self.log: int = _number(f"{self.name} log")
        self.keep: int = _number(f"{self.name} keep")
        self._made: dict[str, str] = {}
        self._words = {
            "schema": self.quoted,
            "log": str(self.log),
            "keep": str(self.keep),
            "channel": self.channel,
            "event_bytes": str(limits.event_bytes),
        }

    def sql(self, text: str) -> str:
        """SQL with the names in place of `@schema@` and the like."""
        made = self._made.get(text)
        if made is None:
            made = self._made[text] = re.sub(r"@(\w+)@", lambda found: self._words[found[1]], text)
        return made

    def steps(self, version: int) -> str:
        """What a schema lacks that has taken so many steps."""
        folder = files(__package__) / "sql"
        texts = [(folder / f"{name}.sql").read_text("utf-8") for step in STEPS[version:] for name in step]
        return self.sql("\n".join(texts))


def array(numbers: Iterable[int]) -> str:
    """Numbers as PostgreSQL writes an array, for a parameter that is cast: `$1::text::bigint[]`.

    asyncpg knows arrays of text. Of others it asks the server on every connection, by a statement of some milliseconds.
    """
    return f"{{{','.join(map(str, numbers))}}}"


def _number(text: str) -> int:
    """A number for an advisory lock."""
    digest = hashlib.blake2b(f"newswire {text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
