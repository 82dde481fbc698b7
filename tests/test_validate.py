"""Numbers in options: what is none is refused where the options are made, whichever they are."""

from __future__ import annotations

from math import nan

import pytest

from newswire import Retention, StreamOptions
from newswire.client import Backoff
from newswire.hub.options import HubOptions, PresenceOptions
from newswire.relay import RelayOptions
from newswire.runs.options import RunOptions, WorkerOptions


@pytest.mark.parametrize(
    ("options", "name", "text"),
    [
        (StreamOptions, "heartbeat", "must be a number greater than 0 (or None to switch it off)"),
        (StreamOptions, "retry", "is a number of milliseconds, 0 or more"),
        (HubOptions, "window_bytes", "must be a number greater than 0"),
        (PresenceOptions, "grace", "is a number of seconds, 0 or more"),
        (Retention, "max_age", "must be a number greater than 0 (or None for no limit)"),
        (RunOptions, "timeout", "must be a number greater than 0 (or None to switch it off)"),
        (WorkerOptions, "lease", "is a number of seconds, 0.2 or more"),
        (RelayOptions, "body_timeout", "must be a number greater than 0"),
        (Backoff, "cap", "is a number of seconds, 0 or more"),
    ],
)
def test_what_is_no_number_for_it(options: type, name: str, text: str) -> None:
    """Less than there may be, what is no number at all, and a text as the command line has it."""
    for value in (-1, nan, "7d"):
        with pytest.raises(ValueError, match=name) as caught:
            options(**{name: value})
        assert str(caught.value) == f"{name} {text}, not {value!r}"


def test_none() -> None:
    """It switches a limit off where there is one to switch off, and is refused elsewhere."""
    assert StreamOptions(heartbeat=None, retry=None).heartbeat is None
    with pytest.raises(ValueError, match="max_body must be a number greater than 0, not None"):
        RelayOptions(max_body=None)  # type: ignore[arg-type]
