"""The ways in which a stream ends before its answer is whole: how, with which code, and a word that says so."""

from __future__ import annotations

from typing import Final

import pytest

from newswire.runs.dialects import End

ENDS: Final[dict[str, tuple[End | None, str, str]]] = {
    "failed": (End("failed", {"type": "RateLimited", "message": "slow down"}), "failed", "slow down"),
    "failed without a word": (End("failed"), "failed", "failed"),
    "stopped": (End("stopped"), "stopped", "stopped"),
    "interrupted": (End("interrupted"), "interrupted", "interrupted"),
    "goodbye": (None, "goodbye", "goes on"),
}
each_end = pytest.mark.parametrize(("end", "code", "message"), ENDS.values(), ids=ENDS.keys())
