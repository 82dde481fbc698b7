"""What an engine does so that events are published in an application's own transaction. `Hub.publish` is what calls it.

The log is in the application's own database. So an event can be written through the application's connection, and share
the fate of its transaction: no one sees it before the commit, nor after a rollback. Which connection that is, and
whether its calls are awaited, the engine does not know: it says in steps what is to be executed, and gets the rows.
`newswire.log.connections` executes them.

What is written has tokens. When the transaction is committed, and its events have their places in the log, the engine
finds them by their tokens, for ten minutes at least. That is what a ticket waits for.

`newswire log watch` writes a trigger that publishes each change of a table in the transaction that makes it. An insert
becomes an event of the type `insert`, a change `update`, a removal `delete`; the data is the row as a JSON object, of a
removal the row as it was. The channel is made of a `ChannelTemplate`, in which `{column}` stands for a value of the
row. If a change leads to another channel, the old one gets a `delete` and the new one an `insert`. Engines write the
SQL.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias, TypeVar

from newswire.errors import InvalidChannel, LogUnavailable
from newswire.log.channels import check_channel
from newswire.log.position import Position
from newswire.wire.event import Event

_PART: Final = re.compile(r"\{([^{}]+)\}")


class ChannelTemplate:
    """A channel's name with `{column}` in it.

    Args:
        text: such as `orders.{id}`.

    Attributes:
        columns: the columns that it names.

    Raises:
        InvalidChannel: no channel can have such a name.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = _PART.split(text)  # literal, column, literal, column, …, literal
        self.columns: list[str] = self._parts[1::2]
        literal = "x".join(self._parts[::2])
        if "{" in literal or "}" in literal:
            raise InvalidChannel(text, f"{text[:100]!r} has a brace without its other one: write 'orders.{{id}}'")
        check_channel(literal)
        if literal.startswith("$"):
            raise InvalidChannel(text, "a channel that begins with '$' is newswire's own: take another")

    def sql(self, column: str) -> str:
        """An expression whose value is the channel.

        Args:
            column: the expression of a column, with `{}` for its name.
        """
        return " || ".join(
            column.format(name(part)) if index % 2 else quoted(part)
            for index, part in enumerate(self._parts)
            if index % 2 or part
        )


def quoted(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def name(text: str) -> str:
    """The name of a table or a column in SQL."""
    return '"' + text.replace('"', '""') + '"'


T = TypeVar("T")

Row: TypeAlias = Sequence[Any]


class Statement(NamedTuple):
    """Something to execute.

    Attributes:
        sql: with a `?` for each parameter, and no other `?` or `%`.
        parameters: their values.
    """

    sql: str
    parameters: Sequence[object] = ()


class Raw(NamedTuple):
    """A connection as its driver made it: what knows whether it is in a transaction.

    Attributes:
        connection: the driver's object.
        managed: whether something above the driver begins and ends its transactions.
    """

    connection: Any
    managed: bool


# Yields what is to be executed, is sent the rows of each statement, and returns a result. Where it yields None, it is
# sent the `Raw` connection.
Steps: TypeAlias = Generator[Statement | None, Any, T]

# Where the events of a token are; None: they can't be events, and were set aside.
Found: TypeAlias = Sequence[Position] | None


class NotReady(LogUnavailable):
    """The connection's database has no log yet, or not that of the hub: open the log first, and try again."""


class Transactions(ABC):
    """Takes events through an application's connections.

    Attributes:
        database: what kind of database that is, as `newswire.log.connections` names it: `sqlite` or `postgresql`.
    """

    database: ClassVar[str]

    @abstractmethod
    def write(self, events: Sequence[tuple[str, Event]], key: str | None) -> Steps[Sequence[str]]:
        """Write a batch of (channel, event), which were checked, in the connection's transaction.

        Takes no lock but those of its own inserts.

        Args:
            events: at least one.
            key: the token of an idempotency key: if the log knows it, nothing is written.

        Returns:
            the tokens of what was written.

        Raises:
            InvalidConnection: the connection leads to another database than the log; nothing was written.
            NotReady: see there; nothing was written.
        """

    async def prepare(self) -> None:
        """Get ready for `write` and snapshots: called once more after `NotReady`."""

    @abstractmethod
    async def find(self, tokens: Sequence[str]) -> Mapping[str, Found]:
        """Where the events of these tokens are; without those that are not in the log.

        Raises:
            LogUnavailable: the log can't say that now.
        """

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Make what takes one snapshot."""

    @abstractmethod
    async def watch(self, table: str, template: ChannelTemplate | None) -> str:
        """The SQL of what publishes each change of a table; see `newswire.log.transactions`.

        Args:
            table: a table of the application's, in the log's database.
            template: of the channel; None: write the SQL that takes it away.

        Raises:
            LogError: there is no such table, or the template names a column that it has not.
        """


class Snapshot(ABC):
    """Has a connection see one state of the database, and tells the position of that state. Called in this order."""

    async def hold(self) -> None:
        """Prepare the log. `settle` or `abandon` has to follow soon."""

    @abstractmethod
    def begin(self) -> Steps[None]:
        """Have the connection see one state from now on.

        Raises:
            InvalidConnection: it leads to another database, or its transaction can't have a snapshot any more.
            NotReady: see there.
        """

    @abstractmethod
    async def settle(self) -> Position:
        """The position of that state.

        Raises:
            InvalidConnection: it has none: the transaction has published itself, or has read before.
        """

    async def abandon(self) -> None:
        """Let the log go on, if it was held."""

    @abstractmethod
    def end(self, failed: bool) -> Steps[None]:
        """End what `begin` began, if it began something."""
