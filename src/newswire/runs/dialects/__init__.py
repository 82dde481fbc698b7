"""The ways in which a run can be read: each in the words of an API whose clients exist already."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from newswire.runs.dialects.ag_ui import AGUI
from newswire.runs.dialects.ai_sdk import AISDK
from newswire.runs.dialects.anthropic import Anthropic
from newswire.runs.dialects.base import Dialect, End, Head, Native, Reason, StreamFailure
from newswire.runs.dialects.openai_chat import OpenAIChat
from newswire.runs.dialects.openai_responses import OpenAIResponses
from newswire.runs.dialects.passthrough import (
    AnthropicPassthrough,
    OpenAIChatPassthrough,
    OpenAIResponsesPassthrough,
    Passthrough,
    Transcoded,
)
from newswire.runs.dialects.upstream import UpstreamParser

# By the name that a request asks for.
DIALECTS: Final[Mapping[str, type[Dialect]]] = MappingProxyType(
    {kind.name: kind for kind in (Native, OpenAIChat, OpenAIResponses, Anthropic, AISDK, AGUI)}
)
# The formats of upstreams that a run may store as they came (`Head.raw`).
PASSTHROUGHS: Final[Mapping[str, type[Passthrough]]] = MappingProxyType(
    {kind.name: kind for kind in (OpenAIChatPassthrough, OpenAIResponsesPassthrough, AnthropicPassthrough)}
)
# The parsers of upstreams' streams, by the dialect whose format they read.
PARSERS: Final[Mapping[str, type[UpstreamParser]]] = MappingProxyType(
    {name: kind.reads for name, kind in PASSTHROUGHS.items()}
)

__all__ = [
    "DIALECTS",
    "PASSTHROUGHS",
    "PARSERS",
    "Dialect",
    "End",
    "Head",
    "StreamFailure",
    "UpstreamParser",
    "Reason",
    "dialect_for",
    "dialect_named",
    "parser_named",
]


def dialect_named(name: str) -> type[Dialect]:
    """The dialect of this name.

    Raises:
        ValueError: there is none; the message names those that exist.
    """
    try:
        return DIALECTS[name]
    except KeyError:
        raise ValueError(f"there is no dialect {name!r}; there are {', '.join(sorted(DIALECTS))}") from None


def parser_named(name: str) -> type[UpstreamParser]:
    """The reader of the streams of upstreams that speak this dialect.

    Raises:
        ValueError: there is none; the message names those that exist.
    """
    try:
        return PARSERS[name]
    except KeyError:
        raise ValueError(f"there is no reader of {name!r}; there are {', '.join(sorted(PARSERS))}") from None


def dialect_for(name: str, head: Head) -> Dialect:
    """A new reader's stream of a run, which may store parts or an upstream's raw events (`Head.raw`).

    Args:
        name: the dialect's.
        head: the run.

    Raises:
        ValueError: there is no such dialect; the message names those that exist.
    """
    kind = dialect_named(name)
    raw = head.raw
    if raw is None or raw not in PARSERS:
        return kind(head)
    return PASSTHROUGHS[name](head) if raw == name else Transcoded(kind(head), PARSERS[raw]())
