"""One connection to a stream, watched for a while: what came, when, and how it ended.

What came are blocks: lines and times. A decoder would hide what the doctor looks for. Lines end at CRLF, LF or CR
(WHATWG HTML, section 9.2.5), and a block at a blank line. Each block knows when its first and its last byte arrived.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from newswire.reason import reason
from newswire.redact import without_userinfo


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
        return self.ended is not None and any(line == "data" or line.startswith("data:") for line in self.lines)

    @property
    def data(self) -> str:
        """The event's data."""
        return "\n".join(self.values("data"))

    @property
    def kind(self) -> str:
        """The event's type."""
        return self.last("event") or "message"


class BlockParser:
    """Makes blocks of chunks, each of which is read once."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._block: Block | None = None  # has begun
        self._rest: list[bytes] = []  # of a line that has no end yet, or ends at a CR that a LF may follow
        self._first = True

    def feed(self, at: float, chunk: bytes) -> None:
        """Take the next chunk, and when it came."""
        if self._first and chunk:
            chunk, self._first = chunk.removeprefix(b"\xef\xbb\xbf"), False
        if self._rest and b"\n" not in chunk and b"\r" not in chunk and not self._rest[-1].endswith(b"\r"):
            self._rest.append(chunk)
            return
        text = b"".join([*self._rest, chunk])
        held = text.endswith(b"\r")  # a LF may follow, in the next chunk
        lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest = lines.pop()
        if held:
            rest = lines.pop() + b"\r"
        self._rest = [rest] if rest else []
        for line in lines:
            if self._block is None:
                self._block = Block([], at)
            if line:
                self._block.lines.append(line.decode("utf-8", "replace"))
                self._block.arrivals.append(at)
            elif self._block.lines:
                self._block.ended = at
                self._blocks.append(self._block)
                self._block = None
        if rest and self._block is None:
            self._block = Block([], at)

    def blocks(self, at: float) -> list[Block]:
        """The blocks so far; the last may have no end.

        Args:
            at: when the last chunk came.
        """
        if self._block is None:
            return self._blocks[:]
        rest = b"".join(self._rest)
        last = rest.removesuffix(b"\r")
        block = replace(self._block, lines=self._block.lines[:], arrivals=self._block.arrivals[:])
        if last:
            block.lines.append(last.decode("utf-8", "replace"))
        elif rest:  # a blank line that ends at CR
            block.ended = at
        return [*self._blocks, block] if block.lines else self._blocks[:]


_MOST_BYTES: Final = 4 * 2**20  # of one connection; then the watch ends


@dataclass(slots=True)
class Watched:
    """What one connection gave.

    Attributes:
        method: of the request.
        status: of the answer; None: there was none.
        headers: of the answer, names in lower case.
        version: of HTTP: `HTTP/1.1` or `HTTP/2`.
        url: the address that answered, after redirects.
        redirects: how many there were.
        head_at: seconds from the request to the head.
        chunks: seconds from the request, and the bytes, decompressed.
        size: how many bytes.
        seconds: how long it was watched.
        ended: whether the answer came to its end; the doctor left otherwise.
        cut: what broke the connection, if something did.
        undecodable: why the body could not be decompressed, if it could not.
        error: why there was no answer.
        certificate: whether that was the server's certificate.
    """

    method: str = "GET"
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    version: str = ""
    url: str = ""
    redirects: int = 0
    head_at: float | None = None
    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    size: int = 0
    seconds: float = 0.0
    ended: bool = False
    cut: str | None = None
    undecodable: str | None = None
    error: str | None = None
    certificate: bool = False
    _parser: BlockParser = field(default_factory=BlockParser, repr=False)
    _read: int = field(default=0, repr=False)  # how many chunks the parser has
    _blocks: list[Block] = field(default_factory=list, repr=False)
    _events: list[Block] = field(default_factory=list, repr=False)

    @property
    def blocks(self) -> list[Block]:
        """What came, as blocks: the same objects as long as nothing more comes."""
        if self._read != len(self.chunks):
            for at, chunk in self.chunks[self._read :]:
                self._parser.feed(at, chunk)
            self._read = len(self.chunks)
            self._blocks = self._parser.blocks(self.chunks[-1][0])
            self._events = [block for block in self._blocks if block.is_event]
        return self._blocks

    @property
    def events(self) -> list[Block]:
        """The blocks that are events for a reader."""
        return self._events if self.blocks else []

    @property
    def is_stream(self) -> bool:
        """Whether it is what an EventSource takes for a stream."""
        return self.status == 200 and self.kind == "text/event-stream"

    @property
    def kind(self) -> str:
        """The media type of the answer, in lower case and without its parameters; of several, the last counts."""
        return self.headers.get("content-type", "").rpartition(",")[2].partition(";")[0].strip().lower()

    @property
    def encoding(self) -> str:
        """How the answer is compressed, in lower case; empty: it is not."""
        named = self.headers.get("content-encoding", "").strip().lower()
        return "" if named == "identity" else named

    @property
    def is_readable(self) -> bool:
        """Whether the chunks are what the application wrote: the doctor reads no other compression."""
        return self.encoding in ("", "gzip", "deflate") and self.undecodable is None


async def watch(
    client: Any,
    url: str,
    *,
    seconds: float,
    headers: Mapping[str, str],
    method: str = "GET",
    body: bytes | None = None,
    opened: Callable[[], object] = lambda: None,
    enough: Callable[[Watched], bool] = lambda watched: False,
) -> Watched:
    """Watch a stream for some seconds.

    Args:
        client: an `httpx2.AsyncClient`.
        url: the stream's address.
        seconds: how long at most, from the request on.
        headers: of the request.
        method: of the request.
        body: of the request.
        opened: called when the head has come.
        enough: called after each chunk; True ends the watch.
    """
    import httpx2

    found = Watched(url=url, method=method)
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            async with client.stream(method, url, headers=headers, content=body) as response:
                found.head_at = time.monotonic() - began
                found.status = response.status_code
                found.headers = {name.lower(): value for name, value in response.headers.items()}
                found.version, found.url = response.http_version, str(response.url)
                found.redirects = len(response.history)
                opened()
                async for chunk in response.aiter_bytes():
                    found.chunks.append((time.monotonic() - began, chunk))
                    found.size += len(chunk)
                    if found.size > _MOST_BYTES or enough(found):
                        break
                else:
                    found.ended = True
    except TimeoutError:
        pass
    except httpx2.TransportError as error:
        text = without_userinfo(reason(error))
        if found.status is None:
            found.error, found.certificate = text, _is_certificate(error)
        else:
            found.cut = text
    except httpx2.DecodingError as error:
        found.undecodable = str(error)
    except (httpx2.InvalidURL, httpx2.TooManyRedirects, UnicodeError, ExceptionGroup) as error:
        found.error = without_userinfo(reason(error))  # a group: of the tasks that tried each address
    found.seconds = time.monotonic() - began
    return found


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
