"""How `newswire tail` writes an event: for people, as JSON, or its data alone.

Each event is written and flushed at once. On a terminal, control characters in events are shown and not obeyed: whoever
may publish must not be able to move somebody's cursor, or worse.
"""

from __future__ import annotations

import json
import re
import sys
from enum import Enum
from typing import Final

import click

from newswire.wire.event import Event

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_COLOURS: Final = ("cyan", "magenta", "green", "blue", "bright_cyan", "bright_magenta", "bright_green", "bright_blue")


class Form(Enum):
    """What is written of an event."""

    PEOPLE = "people"
    JSON = "json"
    DATA = "data"


class Printer:
    """Writes events to standard output."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._terminal = sys.stdout.isatty()

    def show(self, event: Event, channel: str | None) -> None:
        """Write one event.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        if self._form is Form.JSON:
            fields = {"id": event.id, "channel": channel, "event": event.event, "data": event.data}
            text = json.dumps(fields, ensure_ascii=False)
        elif self._form is Form.DATA:
            text = self._safe(event.data)
        else:
            text = self._line(event, channel)
        sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
        sys.stdout.buffer.flush()

    def _line(self, event: Event, channel: str | None) -> str:
        parts = []
        if event.id:
            parts.append(self._style(event.id, dim=True))
        if channel:
            parts.append(self._style(channel, fg=_COLOURS[sum(channel.encode()) % len(_COLOURS)]))
        if event.event != "message":
            parts.append(self._style(event.event, fg="yellow"))
        head = " ".join(parts)
        data = self._safe(event.data)
        if "\n" in data:
            data = "\n    " + data.replace("\n", "\n    ")
        return f"{head} {data}" if head else data

    def _style(self, text: str, *, fg: str | None = None, dim: bool | None = None) -> str:
        safe = self._safe(text)
        return click.style(safe, fg=fg, dim=dim) if self._terminal else safe

    def _safe(self, text: str) -> str:
        if not self._terminal:
            return text
        return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
