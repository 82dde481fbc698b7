"""Compressed streams: what a client asked for, and the sink in between.

The hub gives all readers of a group the same chunk. A `CompressedSink` hands on that chunk's blocks, which were
compressed when its first reader came to it. So a thousand readers cost one compression, and a reader who takes no gzip
costs nothing. What the sink beneath counts, holds and cuts is compressed.
"""

from __future__ import annotations

from newswire.delivery.asgi import Scope
from newswire.hub.frames import Chunk
from newswire.hub.options import StreamOptions
from newswire.hub.sink import Sink
from newswire.hub.stats import Counts
from newswire.wire.gzip import GzipBody
from newswire.wire.headers import takes_gzip

VARY = (b"vary", b"accept-encoding")
GZIP = (b"content-encoding", b"gzip")


def body_for(scope: Scope, options: StreamOptions | None, headers: list[tuple[bytes, bytes]]) -> GzipBody | None:
    """The body of a compressed answer to this request; None: it goes out as it is.

    Args:
        scope: the request's.
        options: the stream's.
        headers: the response's. One that says how the content is encoded already stays as it is.
    """
    if options is None or not options.compress or any(name == GZIP[0] for name, _ in headers):
        return None
    values = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == b"accept-encoding"]
    return GzipBody() if takes_gzip(",".join(values)) else None


class CompressedSink:
    """A sink that compresses for the one beneath it.

    Args:
        sink: the connection's.
        body: the response's.
        counts: the hub's.
    """

    __slots__ = ("_body", "_counts", "_sink")

    def __init__(self, sink: Sink, body: GzipBody, counts: Counts) -> None:
        self._sink = sink
        self._body = body
        self._counts = counts

    def write(self, chunk: Chunk) -> bool:
        packed = chunk.packed or chunk.compressed  # a property costs a call
        body = self._body
        body.count(chunk.raw)
        if not body.begun:
            packed = Chunk(raw=body.begin(packed.raw))
        counts = self._counts
        counts.compressed_from += len(chunk.raw)
        counts.compressed_to += len(packed.raw)
        return self._sink.write(packed)

    def end(self, last: Chunk | None) -> None:
        raw = b"" if last is None else last.raw
        packed = self._body.end(raw)
        self._counts.compressed_from += len(raw)
        self._counts.compressed_to += len(packed)
        self._sink.end(Chunk(raw=packed))

    def cut(self) -> None:
        self._sink.cut()
