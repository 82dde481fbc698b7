"""The ways in which a run can be read: each in the words of an API whose clients exist already."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from newswire.runs.dialects.ag_ui import AGUI
from newswire.runs.dialects.ai_sdk import AISDK
from newswire.runs.dialects.anthropic import Anthropic
from newswire.runs.dialects.base import Dialect, End, Head, Problem, Reader, Reason
from newswire.runs.dialects.openai_chat import OpenAIChat
from newswire.runs.dialects.openai_responses import OpenAIResponses

# By the name that a request asks for.
DIALECTS: Final[Mapping[str, type[Dialect]]] = MappingProxyType(
    {kind.name: kind for kind in (OpenAIChat, OpenAIResponses, Anthropic, AISDK, AGUI)}
)

__all__ = ["DIALECTS", "Dialect", "End", "Head", "Problem", "Reader", "Reason", "dialect_for", "dialect_named"]


def dialect_named(name: str) -> type[Dialect]:
    """The dialect of this name.

    Raises:
        ValueError: there is none; the message names those that exist.
    """
    try:
        return DIALECTS[name]
    except KeyError:
        raise ValueError(f"there is no dialect {name!r}; there are {', '.join(sorted(DIALECTS))}") from None


def dialect_for(name: str, head: Head) -> Dialect:
    """A new reader's stream of a run.

    Args:
        name: the dialect's.
        head: the run.

    Raises:
        ValueError: there is no such dialect; the message names those that exist.
    """
    return dialect_named(name)(head)
