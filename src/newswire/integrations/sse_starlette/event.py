"""sse-starlette's events: what an item of a stream is on the wire.

Bytes for bytes as there. `newswire.wire` writes the same standard in newswire's own form, with LF and without checks of
fields that are values already, so neither can be made of the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from newswire.wire.encoder import encode
from newswire.wire.event import Event

Content: TypeAlias = "str | bytes | memoryview | dict[str, Any] | ServerSentEvent | Event | Any"

_LINE_ENDS: Final = re.compile("\r\n|\r|\n")  # and no other: `str.splitlines` cuts at more


class ServerSentEvent:
    """One block of a stream.

    Args:
        data: its data, as `str` makes it; one `data:` line for each of its lines. None: no `data:` line.
        event: its type. Line ends in it are left out.
        id: its id. Line ends in it are left out.
        retry: milliseconds after which a client reconnects.
        comment: written before the fields; clients ignore it.
        sep: what ends a line: CRLF (default), CR or LF.
    """

    DEFAULT_SEPARATOR = "\r\n"

    def __init__(
        self,
        data: Any = None,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
        comment: str | None = None,
        sep: str | None = None,
    ) -> None:
        self.data = data
        self.event = event
        self.id = id
        self.retry = retry
        self.comment = comment
        self._sep = self.DEFAULT_SEPARATOR if sep is None else sep

    def encode(self) -> bytes:
        """The block as it is sent.

        Raises:
            TypeError: `retry` is not an int.
        """
        return self._sep.join([*self._lines(), "", ""]).encode()

    def _lines(self) -> Iterator[str]:
        if self.comment is not None:
            yield from (f": {line}" for line in _LINE_ENDS.split(str(self.comment)))
        if self.id is not None:
            yield "id: " + _LINE_ENDS.sub("", _text(self.id))
        if self.event is not None:
            yield "event: " + _LINE_ENDS.sub("", _text(self.event))
        if self.data is not None:
            yield from (f"data: {line}" for line in _LINE_ENDS.split(str(self.data)))
        if self.retry is not None:
            if not isinstance(self.retry, int):
                raise TypeError("retry argument must be int")
            yield f"retry: {self.retry}"


def _text(value: object) -> str:
    """The text of a field: of an Enum that is a str, its value, as there."""
    return str.__str__(value) if isinstance(value, str) else str(value)


class JSONServerSentEvent(ServerSentEvent):
    """A block whose data is JSON: compact, not ASCII only, and without NaN. The arguments are `ServerSentEvent`'s."""

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        if data is not None:
            data = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        super().__init__(data, *args, **kwargs)


def ensure_bytes(data: Content, sep: str) -> bytes:
    """What an item of a stream is on the wire.

    Args:
        data: bytes go as they are. A dict has `ServerSentEvent`'s arguments. A newswire `Event` keeps its id. Of
            everything else, `str` makes the data.
        sep: what ends the lines of a dict or of a text.
    """
    if isinstance(data, (bytes, memoryview)):
        return bytes(data)
    if isinstance(data, ServerSentEvent):
        return data.encode()
    if isinstance(data, Event):
        return encode(data)
    if isinstance(data, dict):
        return ServerSentEvent(**{**data, "sep": sep}).encode()
    return ServerSentEvent(str(data), sep=sep).encode()
