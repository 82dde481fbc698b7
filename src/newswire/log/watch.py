"""What `newswire log watch` is about: a trigger that publishes each change of a table. Engines write its SQL.

An insert becomes an event of the type `insert`, a change `update`, a removal `delete`; the data is the row as a JSON
object, of a removal the row as it was. The channel is made of a template, in which `{column}` stands for a value of the
row. If a change leads to another channel, the old one gets a `delete` and the new one an `insert`.
"""

from __future__ import annotations

import re
from typing import Final

from newswire.errors import InvalidChannel
from newswire.log.channels import check_channel

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
