"""Numbers of things, in words for people: every message that may say "1 event" makes it here."""

from __future__ import annotations


def counted(number: float, what: str) -> str:
    """A number of things: `1 event`, `2,000 events`, `0.5 seconds`.

    Args:
        number: how many.
        what: one of them, in the singular. A plural is this and an `s`.
    """
    shown = f"{number:,}" if isinstance(number, int) else f"{number:,g}"
    return f"{shown} {what}{'' if number == 1 else 's'}"
