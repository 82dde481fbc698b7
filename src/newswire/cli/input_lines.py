"""Standard input as batches of lines: whatever is there, at once.

A thread reads, so that a batch is what came while the last one was on its way: one line of a slow `tail -f`, hundreds
of a large file. Used by `newswire publish`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_AHEAD: Final = 5_000  # lines read ahead of the server


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the input.

    Attributes:
        number: from 1, empty lines counted.
        content: without its line end.
    """

    number: int
    content: bytes


def batches(descriptor: int, *, lines: int, size: int) -> Iterator[list[Line]]:
    """Read until the end; empty lines are left out.

    Args:
        descriptor: of the input; 0 is standard input. It is left open.
        lines: a batch has at most so many …
        size: … and at most about so many bytes, but at least one line.
    """
    ready: queue.Queue[Line | None] = queue.Queue(_AHEAD)
    threading.Thread(target=_read, args=(descriptor, ready), name="newswire input", daemon=True).start()
    line: Line | None = Line(0, b"")
    while line is not None:
        batch: list[Line] = []
        total = 0
        line = ready.get()
        while line is not None:
            batch.append(line)
            total += len(line.content)
            if len(batch) >= lines or total >= size:
                break
            try:
                line = ready.get_nowait()
            except queue.Empty:
                break
        if batch:
            yield batch


def _read(descriptor: int, ready: queue.Queue[Line | None]) -> None:
    # The file is this thread's own: closing it elsewhere would wait for the read that is going on.
    try:
        with open(descriptor, "rb", closefd=False) as source:
            for number, raw in enumerate(source, 1):
                content = raw.rstrip(b"\r\n")
                if content.strip():
                    ready.put(Line(number, content))
    finally:
        ready.put(None)
