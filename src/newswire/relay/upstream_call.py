"""The producer of a relayed run: one request to an upstream, and its events into the run as they come.

The worker that claims the run first starts it, so the claim is the promise that the upstream is called once. If an
upstream gives no stream, its answer is the run's one event, for all requests that wait with the same key. EOF is not
completion: only the format's own last event makes the run `done`. That event counts also where the stream ends behind
it without the empty line: it is whole, whatever an event in general is.

Each event is stored as it came, whether its format's reader understands it or not.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from newswire.errors import DecodeLimitExceeded, LimitExceeded, RelayRefused
from newswire.log.histogram import Histogram
from newswire.redact import printable
from newswire.relay.credentials import Redactor
from newswire.relay.headers import extra_headers, for_client, kept
from newswire.relay.options import RelayOptions
from newswire.relay.responses import head_event, refusal, refusal_event
from newswire.relay.upstream import body_of, hide_userinfo, library_of, send, set_timeouts
from newswire.runs.dialects import End, UpstreamParser, parser_named
from newswire.runs.dialects.upstream import storable
from newswire.runs.parts import Part, Reasoning, Text, ToolCall, ToolInput, Usage
from newswire.runs.worker.writer import RunWriter
from newswire.wire.decoder import Decoder
from newswire.wire.event import Event
from newswire.wire.gzip import is_readable
from newswire.wire.headers import is_event_stream

_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)  # seconds


@dataclass(slots=True)
class RelayStats:
    """What this process's relay has done since it began.

    Attributes:
        calls: requests for completions that went to an upstream, by its name and the status of the answer.
        passed: other requests, in the same way.
        first_content: completions by the time from the request to the first content, not to the head.
        tokens: that upstreams wrote: as many as they said, else one for each piece of content.
        streaming_seconds: from the first content to the end, all completions together.
    """

    calls: Counter[tuple[str, int]] = field(default_factory=Counter)
    passed: Counter[tuple[str, int]] = field(default_factory=Counter)
    first_content: Histogram = field(default_factory=lambda: Histogram(_BOUNDS))
    tokens: int = 0
    streaming_seconds: float = 0.0

    def streamed(self, tokens: int, seconds: float) -> None:
        """A completion has ended: so many tokens in so long."""
        self.tokens += tokens
        self.streaming_seconds += seconds


logger: logging.Logger = logging.getLogger("newswire.runs")

CONTENT: Final = (Text, Reasoning, ToolCall, ToolInput)  # parts that are a piece of an answer
_MAX_REFUSAL: Final = 2**20  # bytes of an upstream's error that are kept
_REFUSAL_SECONDS: Final = 10.0
_REFUSAL_KEPT: Final = 60.0  # seconds: for the requests that wait for it; they read it within milliseconds
_EMPTY_LINE: Final = b"\n\n\n"  # ends the last line, whatever is missing of it, and dispatches its event
_LAST_BYTES_SECONDS: Final = 0.5  # after the last event the connection ends soon, and can then be used again


@dataclass(slots=True, kw_only=True)
class UpstreamCall:
    """One request to an upstream, not sent yet.

    Attributes:
        request: of httpx's or httpx2's.
        client: an `AsyncClient` of the same library, which stays open; None: one for this request.
        body: the request's body, if it can be sent again.
        format: the dialect that the upstream speaks.
        upstream: its name, for the numbers.
        options: time limits.
        stats: counts.
    """

    request: Any
    client: Any
    body: bytes | None
    format: str
    upstream: str
    options: RelayOptions
    stats: RelayStats

    async def produce(self, run: RunWriter) -> None:
        """The run's source."""
        if self.client is not None:
            await self._produce(run, self.client)
            return
        async with library_of(self.request).AsyncClient() as client:
            await self._produce(run, client)

    async def _produce(self, run: RunWriter, client: Any) -> None:
        begun = monotonic()
        request = self.request
        hide_userinfo(request)
        sent = [(name.lower(), value) for name, value in request.headers.raw]
        redact = Redactor(sent, request.url.query, self.options.credential_headers)
        try:
            response, headers = await self._head(client)
        except RelayRefused as refused:
            self.stats.calls[self.upstream, refused.status] += 1
            run.put(refusal_event(refused, redact))
            error = {"type": type(refused).__name__, "message": redact(str(refused))}
            await run.fail(End("failed", error), keep_for=_REFUSAL_KEPT)
            return
        try:
            run.put(head_event(headers, redact))
            self.stats.calls[self.upstream, response.status_code] += 1
            await _Copying(self, run, redact, begun).copy(response)
        finally:
            await response.aclose()

    async def _head(self, client: Any) -> tuple[Any, Mapping[str, str]]:
        """The response, and what its head says beside the stream."""
        set_timeouts(self.request, self.options)
        response = await send(client, self.request, body=self.body)
        headers = for_client(response.headers.raw, cookies=self.options.cookies)
        kind = response.headers.get("content-type")
        readable = is_readable(response.headers.get("content-encoding", ""))
        if response.status_code == 200 and is_event_stream(kind) and readable:
            return response, extra_headers(kept(headers, self.options.credential_headers))
        try:
            if not readable:
                raise refusal(
                    502,
                    "upstream_compressed",
                    "the upstream compressed its answer, although the request forbids it, and the relay can't read it",
                    again=False,
                )
            if response.status_code < 400:
                raise refusal(
                    502,
                    "upstream_no_stream",
                    f"the request asks for a stream, and the upstream answered {response.status_code} with "
                    f'{kind or "no content type"}: does it know "stream": true?',
                    again=False,
                )
            body = await self._rest(response)
        finally:
            await response.aclose()
        fields = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in kept(headers, self.options.credential_headers)
            if name not in (b"content-length", b"content-encoding")
        ]
        raise RelayRefused(response.status_code, fields, body, f"the upstream answered {response.status_code}")

    async def _rest(self, response: Any) -> bytes:
        """The body of an error; as much of it as there is."""
        httpx = library_of(self.request)
        body = b""
        try:
            async with asyncio.timeout(_REFUSAL_SECONDS):
                async for chunk in body_of(response):
                    body += chunk
                    if len(body) > _MAX_REFUSAL:
                        break
        except (httpx.HTTPError, TimeoutError, ValueError):
            pass  # the status says most of it
        return body[:_MAX_REFUSAL]


class _Copying:
    """The stream of one call, as far as it has come."""

    def __init__(self, call: UpstreamCall, run: RunWriter, redact: Redactor, begun: float) -> None:
        self._call = call
        self._run = run
        self._redact = redact
        self._reader: UpstreamParser = parser_named(call.format)()
        self._begun = begun
        self._first: float | None = None
        self._pieces = 0
        self._usage: Usage | None = None

    async def copy(self, response: Any) -> None:
        """Copy until the upstream's last word, or until it breaks off; then end the run."""
        httpx = library_of(self._call.request)
        chunks = body_of(response)
        try:
            try:
                error = await self._events(chunks)
            except httpx.TimeoutException:
                error = {"type": "upstream_timeout", "message": "The upstream said nothing for too long."}
            except (httpx.HTTPError, httpx.StreamError) as broken:
                what = self._redact(str(broken) or type(broken).__name__)
                error = {"type": "upstream_cut_off", "message": f"The connection to the upstream broke: {what}"}
            except LimitExceeded as large:  # of the decoder, or of the log
                kind = "upstream_unreadable" if isinstance(large, DecodeLimitExceeded) else "upstream_too_large"
                what = f"{large.what} is {large.actual:,} and the limit is {large.limit:,}"
                error = {"type": kind, "message": f"The upstream sent more in one event than the relay takes: {what}."}
            except ValueError as bad:
                error = {"type": "upstream_unreadable", "message": str(bad)}
        finally:
            if self._first is not None:
                tokens = self._usage.output_tokens if self._usage is not None else 0
                self._call.stats.streamed(tokens or self._pieces, monotonic() - self._first)
        if error is None:
            await self._run.finish()
            try:
                async with asyncio.timeout(_LAST_BYTES_SECONDS):
                    await anext(chunks, None)
            except (httpx.HTTPError, httpx.StreamError, TimeoutError, ValueError):
                pass  # nothing that anybody waits for
        else:
            why = printable(f"({error['type']}): {error['message']}", lines=False)
            logger.warning("run %s: the upstream failed %s", self._run.id, why)
            await self._run.fail(End("failed", error))

    async def _events(self, chunks: Any) -> Mapping[str, str] | None:
        """Copy events. Returns what was wrong in the end; None if the answer is whole."""
        httpx = library_of(self._call.request)
        decoder = Decoder()
        broken: Exception | None = None
        try:
            async for chunk in chunks:
                for event in decoder.feed(chunk):
                    await self._event(event, self._reader.take(event))
                    if self._over():
                        return self._error()
        except (httpx.HTTPError, httpx.StreamError) as error:
            broken = error
        for event in decoder.feed(_EMPTY_LINE):
            parts = self._reader.take(event)
            if self._over():
                await self._event(event, parts)
                return self._error()
        if broken is not None:
            raise broken
        return {"type": "upstream_cut_off", "message": "The upstream's stream ended before its answer was whole."}

    def _over(self) -> bool:
        """Whether the upstream has said its last word."""
        reader = self._reader
        return reader.error is not None or (reader.finished and not reader.missing_tail())

    def _error(self) -> Mapping[str, str] | None:
        """What the upstream reported, if it did."""
        error = self._reader.error
        return None if error is None else {name: self._redact(text) for name, text in error.items()}

    async def _event(self, event: Event, parts: list[Part] | None) -> None:
        """Store an event as it came. `parts` is what its format's reader makes of it; None: nothing."""
        self._note(parts or [])
        data = self._redact.content(event.data)
        await self._run.write(storable(event.event, data, understood=parts is not None))

    def _note(self, parts: list[Part]) -> None:
        for part in parts:
            if isinstance(part, Usage):
                self._usage = part
            elif isinstance(part, CONTENT):
                self._pieces += 1
                if self._first is None:
                    self._first = monotonic()
                    self._run.content_begins()
                    self._call.stats.first_content.observe(self._first - self._begun)
