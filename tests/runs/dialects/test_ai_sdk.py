"""`ai-sdk`, read by Vercel's own client in each of the versions that are in use."""

from __future__ import annotations

from typing import Any

from tests.runs.dialects.scripts import HEAD, SCRIPTS
from tests.runs.dialects.wire import told

from newswire.runs.dialects import dialect_for


def chunks(name: str) -> list[Any]:
    """What is told of a run, without the `[DONE]` that must end it."""
    events = [event for group in told(dialect_for("ai-sdk", HEAD), SCRIPTS[name]) for event in group]
    assert events.pop().data == "[DONE]"
    return [event.json() for event in events]


def test_the_steps_of_a_run() -> None:
    """What the model says after its calls were answered is a new step, and each part is opened and closed in it."""
    kinds = [chunk["type"] for chunk in chunks("tools")]
    assert [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before] == [
        *("start", "start-step", "reasoning-start", "reasoning-delta", "reasoning-end"),
        *("text-start", "text-delta", "text-end", "tool-input-start", "tool-input-delta", "tool-input-start"),
        *("tool-input-delta", "tool-input-available", "tool-input-delta", "tool-input-available"),
        *("tool-output-available", "finish-step"),
        *("start-step", "text-start", "text-delta", "text-end", "tool-input-start", "tool-input-available"),
        *("tool-output-error", "finish-step"),
        *("start-step", "reasoning-start", "reasoning-delta", "reasoning-end", "text-start", "text-delta", "text-end"),
        *("finish-step", "finish"),
    ]
