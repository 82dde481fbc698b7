"""How `newswire tail` writes an event: for people, as JSON, or its data alone.

Each event is written and flushed at once. Control characters in events are shown and not obeyed: a publisher
must not be able to move somebody's cursor, or worse. A pipe leads to a terminal too, in the end, so this holds for all
forms but `--raw` in a pipe, which is the data to the byte.
"""

from __future__ import annotations

import json
import sys
from enum import Enum
from typing import Final

import click

from newswire.cli.terminal import colours
from newswire.redact import printable
from newswire.wire.event import Event

_COLOURS: Final = ("cyan", "magenta", "green", "blue", "bright_cyan", "bright_magenta", "bright_green", "bright_blue")


class PrintedForm(Enum):
    """What is written of an event."""

    PEOPLE = "people"
    JSON = "json"
    DATA = "data"


class Printer:
    """Writes events to standard output."""

    def __init__(self, form: PrintedForm) -> None:
        self._form = form
        self._terminal = sys.stdout.isatty()
        self._colours = colours(sys.stdout)

    def show(self, event: Event, channel: str | None) -> None:
        """Write one event.

        Raises:
            BrokenPipeError: the reader of the output is gone.
        """
        if self._form is PrintedForm.JSON:
            text = _as_json({"id": event.id, "channel": channel, "event": event.event, "data": event.data})
        elif self._form is PrintedForm.DATA:
            text = printable(event.data) if self._terminal else event.data
        elif self._colours:
            text = self._coloured(event, channel)
        else:
            text = _columns(event, channel)
        sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
        sys.stdout.buffer.flush()

    def _coloured(self, event: Event, channel: str | None) -> str:
        parts = []
        if event.id:
            parts.append(_style(event.id, dim=True))
        if channel:
            parts.append(_style(channel, fg=_COLOURS[sum(channel.encode("utf-8", "replace")) % len(_COLOURS)]))
        if event.event != "message":
            parts.append(_style(event.event, fg="yellow"))
        head = " ".join(parts)
        data = printable(event.data)
        if "\n" in data:
            data = "\n    " + data.replace("\n", "\n    ")
        return f"{head} {data}" if head else data


def _columns(event: Event, channel: str | None) -> str:
    """Without colours nothing but its place tells a type from data: four columns with tabs between, all always there.

    Further lines of the data have three empty columns; an event's own type is never empty.
    """
    head = (printable(text or "", lines=False) for text in (event.id, channel, event.event))
    return "\t".join((*head, printable(event.data).replace("\n", "\n\t\t\t")))


def _as_json(fields: dict[str, str | None]) -> str:
    """JSON that holds the very same text, and no character that a terminal would obey."""
    text = json.dumps(fields, ensure_ascii=False)
    return text if printable(text) == text else json.dumps(fields).replace("\x7f", "\\u007f")


def _style(text: str, *, fg: str | None = None, dim: bool | None = None) -> str:
    return click.style(printable(text, lines=False), fg=fg, dim=dim)
