"""What engines on servers share: what a server says, and the pause after an attempt that failed."""

from __future__ import annotations

import pytest

from newswire.errors import LogCorrupt, LogError, LogUnavailable
from newswire.log.server import Attempts, LinkLost, RemoteServer, text_of


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("no route to\n  redis://ada:secret@host:6379/0"), "no route to redis://host:6379/0"),
        (OSError("x" * 190 + " nats://ada:secret@host:4222"), "x" * 190 + " nats://ho"),
        (TimeoutError(), "no answer"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_what_a_server_says(error: Exception, text: str) -> None:
    """In one line, and no password in it, also where it is cut."""
    assert text_of(error) == text


@pytest.mark.anyio
async def test_the_pause_after_an_attempt() -> None:
    """Calls fail at once with what the attempt failed with, until one succeeds."""
    attempts = Attempts()
    attempts.check_pause()
    for failure in (LogUnavailable("away"), LogCorrupt("not ours")):
        attempts.pause(failure)
        with pytest.raises(LogError, match=str(failure)) as caught:
            attempts.check_pause()
        assert (type(caught.value), attempts.away, attempts.wait() > 0.001) == (type(failure), True, True)
    attempts.reached()
    attempts.check_pause()
    assert not attempts.away


@pytest.mark.anyio
async def test_a_call_in_the_pause_has_sent_nothing() -> None:
    """So it does not fail as one that has, `LinkLost`, whatever the attempt failed with."""
    server = RemoteServer("test", 1.0, True)
    assert type(server.failed(LinkLost("the connection broke"))) is LinkLost
    with pytest.raises(LogUnavailable, match="the connection broke") as caught:
        server.check_pause()
    assert type(caught.value) is LogUnavailable
