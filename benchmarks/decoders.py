"""The decoders that are compared: each takes the chunks of one stream, as bytes, and gives its events.

All begin with bytes, as they come from the network, and are used as their own clients use them. The decoders of
LaunchDarkly, OpenAI and Anthropic have no public door but their clients, so these are entered one step further in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import anthropic._streaming
import httpx
import httpx2
import httpx_sse
import openai._streaming
import sseclient
from ld_eventsource.actions import Event as LaunchDarklyEvent
from ld_eventsource.reader import _BufferedLineReader, _SSEReader

from newswire.wire import Decoder

Chunks = Iterable[bytes]
_HEADERS: Final = {"content-type": "text/event-stream"}


@dataclass(frozen=True, slots=True)
class Contender:
    """One decoder.

    Attributes:
        name: as tables show it.
        decode: chunks to events; each has an attribute `data`.
    """

    name: str
    decode: Callable[[Chunks], Iterable[Any]]


def _launchdarkly(chunks: Chunks) -> Iterator[Any]:
    for item in _SSEReader(_BufferedLineReader.lines_from(chunks)).events_and_comments():
        if type(item) is LaunchDarklyEvent:
            yield item


def _httpx_sse(chunks: Chunks) -> Iterator[Any]:
    return httpx_sse.EventSource(httpx.Response(200, headers=_HEADERS, content=iter(chunks))).iter_sse()


def _httpx2(chunks: Chunks) -> Iterator[Any]:
    request = httpx2.Request("GET", "http://localhost/")
    return iter(httpx2.EventSource(httpx2.Response(200, headers=_HEADERS, content=iter(chunks), request=request)))


def _sseclient(chunks: Chunks) -> Iterator[Any]:
    events: Iterator[Any] = sseclient.SSEClient(chunks).events()
    return events


def _openai(chunks: Chunks) -> Iterator[Any]:
    return openai._streaming.SSEDecoder().iter_bytes(iter(chunks))


def _anthropic(chunks: Chunks) -> Iterator[Any]:
    return anthropic._streaming.SSEDecoder().iter_bytes(iter(chunks))


OURS: Final = Contender("newswire", lambda chunks: Decoder().decode(chunks))
PEERS: Final = (
    Contender("LaunchDarkly", _launchdarkly),
    Contender("httpx-sse", _httpx_sse),
    Contender("httpx2", _httpx2),
    Contender("sseclient-py", _sseclient),
    Contender("openai", _openai),
    Contender("anthropic", _anthropic),
)
PACKAGES: Final = (
    *("launchdarkly-eventsource", "httpx-sse", "httpx", "httpx2"),
    *("sseclient-py", "openai", "anthropic"),
)
