"""Whether the patterns of a credential cover what a request asks for. Pure functions; everything else relies on them.

A request may ask for a pattern itself, so the question is not whether a pattern matches a name but whether one pattern
holds every channel of another (`newswire.log.channels.covers`). It errs on the safe side: each thing asked for has to
be covered by one granted pattern alone. (`a.*` and `a.*.>` together hold all of `a.>`, and still don't grant it.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from newswire.errors import InvalidChannel
from newswire.log.channels import check_pattern, covers

MOST: Final = 1000
"""Patterns that a credential may have of each kind."""


def first_uncovered(granted: Sequence[str], wanted: Iterable[str]) -> str | None:
    """The first of `wanted` that no granted pattern covers; None if all are covered."""
    for one in wanted:
        if one not in granted and not any(covers(pattern, one) for pattern in granted):
            return one
    return None


def read_grants(value: Any) -> tuple[str, ...]:
    """The patterns of a claim: a list of texts, or one text.

    Raises:
        ValueError: it is something else, or one is no pattern; the message is for people.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise ValueError("is no list of channel patterns")
    if len(value) > MOST:
        raise ValueError(f"has {len(value):,} patterns, and {MOST:,} are the most")
    try:
        return tuple(dict.fromkeys(check_pattern(one) for one in value))
    except InvalidChannel as error:
        raise ValueError(f"has a pattern that is not valid: {error}") from None
