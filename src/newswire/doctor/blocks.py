"""The blocks of a stream as they came: lines and times. A decoder would hide what the doctor looks for.

Lines end at CRLF, LF or CR (WHATWG HTML, section 9.2.5), and a block at a blank line. Each block knows when its first
and its last byte arrived.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Block:
    """Lines up to a blank line.

    Attributes:
        lines: without their ends.
        began: when its first byte came, in seconds since the request.
        ended: when its blank line came; None: it did not.
        arrivals: when each of its lines was whole.
    """

    lines: list[str]
    began: float
    ended: float | None = None
    arrivals: list[float] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        """The values of all fields of this name."""
        found = []
        for line in self.lines:
            field_name, _, value = line.partition(":")
            if field_name == name:
                found.append(value.removeprefix(" "))
        return found

    def last(self, name: str) -> str | None:
        """The value of the last field of this name."""
        values = self.values(name)
        return values[-1] if values else None

    @property
    def comments(self) -> list[str]:
        """Its comments."""
        return [line for line in self.lines if line.startswith(":")]

    @property
    def is_event(self) -> bool:
        """Whether a reader gets an event of it."""
        return self.ended is not None and bool(self.values("data"))

    @property
    def data(self) -> str:
        """The event's data."""
        return "\n".join(self.values("data"))

    @property
    def kind(self) -> str:
        """The event's type."""
        return self.last("event") or "message"


def blocks_of(chunks: Iterable[tuple[float, bytes]]) -> list[Block]:
    """The blocks of a stream; the last may have no end.

    Args:
        chunks: when each came, and its bytes.
    """
    blocks: list[Block] = []
    block: Block | None = None
    rest = b""
    first = True
    at = 0.0
    for at, chunk in chunks:
        if first and chunk:
            chunk, first = chunk.removeprefix(b"\xef\xbb\xbf"), False
        text = rest + chunk
        held = text.endswith(b"\r")  # a LF may follow, in the next chunk
        lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if held:
            lines, rest = lines[:-2], lines[-2] + b"\r"
        else:
            rest = lines.pop()
        for line in lines:
            if block is None:
                block = Block([], at)
            if line:
                block.lines.append(line.decode("utf-8", "replace"))
                block.arrivals.append(at)
            elif block.lines:
                block.ended = at
                blocks.append(block)
                block = None
        if rest and block is None:
            block = Block([], at)
    last = rest.removesuffix(b"\r")
    if block is not None and last:
        block.lines.append(last.decode("utf-8", "replace"))
        rest = last if rest == last else b""
    if block is not None and block.lines:
        if rest == b"\r":  # a blank line that ends at CR
            block.ended = at
        blocks.append(block)
    return blocks
