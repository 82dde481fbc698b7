"""Options and arguments of another kind are refused where they are given, whichever they are."""

from __future__ import annotations

import asyncio
from functools import partial
from math import nan
from types import SimpleNamespace
from typing import Any

import pytest

from newswire import AsyncEventSource, Decoder, EventSource, Hub, Log, Retention, Runs, StreamOptions, open_log
from newswire.client import Backoff, CursorFile, Hooks, Limits, Options, Resume, Timeouts, iter_events
from newswire.contract import Contract
from newswire.hub.options import HubOptions, PresenceOptions
from newswire.log.copy import copy
from newswire.log.verify import verify
from newswire.relay import RelayOptions
from newswire.runs.options import RunOptions, WorkerOptions


@pytest.mark.parametrize(
    ("options", "name", "text"),
    [
        (StreamOptions, "heartbeat", "must be a number greater than 0 (or None to switch it off)"),
        (StreamOptions, "retry", "is a whole number of milliseconds, 0 or more"),
        (HubOptions, "window_bytes", "must be a whole number greater than 0"),
        (PresenceOptions, "grace", "is a number of seconds, 0 or more"),
        (Retention, "max_age", "must be a number greater than 0 (or None for no limit)"),
        (RunOptions, "timeout", "must be a number greater than 0 (or None to switch it off)"),
        (WorkerOptions, "lease", "is a number of seconds, 0.2 or more"),
        (RelayOptions, "body_timeout", "must be a number greater than 0"),
        (Backoff, "cap", "is a number of seconds, 0 or more"),
        (Limits, "attempts", "must be a whole number greater than 0 (or None for no limit)"),
        (Limits, "without_progress", "is a number of seconds, 0 or more"),
        (Limits, "redirects", "is a whole number of redirects, 0 or more"),
        (Limits, "max_event", "must be a whole number greater than 0"),
        (Timeouts, "inactivity", "must be a number greater than 0 (or None to wait for ever)"),
        (Decoder, "max_line", "must be a whole number greater than 0"),
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
    with pytest.raises(ValueError, match="max_body must be a whole number greater than 0, not None"):
        RelayOptions(max_body=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="retry is a number of seconds, 0 or more, not None"):
        Backoff(retry=None)  # type: ignore[arg-type]


def test_a_flag_is_no_number() -> None:
    """True would be a limit of 1."""
    for options, name in ((HubOptions, "window_bytes"), (Timeouts, "connect"), (RunOptions, "timeout")):
        with pytest.raises(ValueError, match=f"{name} must be a .*number greater than 0.*, not True"):
            options(**{name: True})


def test_a_fraction_of_a_byte() -> None:
    """What is counted is whole: a `retry:` of 2.5 would be no number to any client."""
    for options, name in ((StreamOptions, "retry"), (Retention, "max_events"), (Limits, "attempts")):
        with pytest.raises(ValueError, match=f"{name} .* whole number"):
            options(**{name: 2.5})


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (StreamOptions, "compress"),
        (StreamOptions, "opening"),
        (RunOptions, "lazy"),
        (RunOptions, "takeover"),
        (WorkerOptions, "tell_errors"),
        (RelayOptions, "shared"),
        (RelayOptions, "cookies"),
        (Resume, "reconnect"),
        (Resume, "idempotent"),
    ],
)
def test_what_is_no_flag(options: type, name: str) -> None:
    """A text as the environment has it: `false` would count as True."""
    with pytest.raises(ValueError, match=f"{name} is True or False, not 'false'"):
        options(**{name: "false"})


URL = "http://127.0.0.1:9/"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda x: HubOptions(presence=x), "presence is a PresenceOptions, not"),
        (lambda x: Hub(options=x), "options is a HubOptions, not"),
        (lambda x: Runs(x), "Runs takes a Hub, not"),
        (lambda x: Runs(Hub(), options=x), "options is a RunOptions, not"),
        (lambda x: Runs(Hub(), worker=x), "worker is a WorkerOptions, not"),
        (lambda x: Runs(Hub(), stream=x), "stream is a StreamOptions, not"),
        (lambda x: Options(timeouts=x), "timeouts is a Timeouts, not"),
        (lambda x: Hooks(gap=x), "gap is a function that newswire calls, not"),
        (lambda x: EventSource(URL, options=x), "options is an Options, not"),
        (lambda x: AsyncEventSource(URL, options=x), "options is an Options, not"),
        (lambda x: list(iter_events([b""], limits=x)), "limits is a Limits, not"),
    ],
)
def test_options_of_another_kind(make: Any, text: str) -> None:
    """A text, a mapping, even an empty one, and the options of something else."""
    for value in ("x", {}, {"timeout": 3}, Retention()):
        with pytest.raises(TypeError) as caught:
            make(value)
        assert str(caught.value) == f"{text} {value!r:.60}"


def test_a_class_is_no_value() -> None:
    """The message calls it one."""
    with pytest.raises(TypeError, match="options is a HubOptions, not the class HubOptions"):
        Hub(options=HubOptions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"url": 3}, "url is a str, not 3"),
        ({"url": b"http://a/"}, "url is a str, not b'http://a/'"),
        ({"method": 3}, "method is a str, not 3"),
        ({"headers": "a"}, "headers is a mapping of texts to texts"),
        ({"headers": 3}, "headers is a mapping of texts to texts"),
        ({"headers": {"a": 3}}, "headers is a mapping of texts to texts"),
        ({"headers": {"a": None}}, "headers is a mapping of texts to texts"),
        ({"body": {"a": object()}}, "body is sent as JSON, and this can't be: a: object has no form in JSON"),
        ({"last_event_id": 3}, "last_event_id is a str, not 3"),
        ({"cursor": 3}, "cursor is a path, a CursorStore or a function that gets each ID, not 3"),
    ],
)
@pytest.mark.parametrize("source", [EventSource, AsyncEventSource])
def test_arguments_of_a_source(source: Any, given: dict[str, Any], text: str) -> None:
    """They are refused where the source is made, by name."""
    with pytest.raises(TypeError, match="^" + text):
        source(**{"url": URL, **given})


async def _later(*arguments: Any) -> Any:
    """What nothing would await."""


class _Later:
    async def __call__(self, *arguments: Any) -> Any:
        """The same, of an object."""


def _read_with(**given: Any) -> None:
    with EventSource(URL) as source:
        source.typed(Contract("c", {"a": int}), **given)


@pytest.mark.parametrize("function", [_later, partial(_later, 1), _Later()], ids=["function", "partial", "object"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("url", lambda x: AsyncEventSource(x)),
        ("headers", lambda x: EventSource(URL, headers=x)),
        ("error", lambda x: Hooks(error=x)),
        ("unknown", lambda x: _read_with(unknown=x)),
        ("unknown", lambda x: Contract("c", {"a": int}, unknown=x)),
        ("CursorStore.load", lambda x: EventSource(URL, cursor=SimpleNamespace(load=x, save=print, flush=print))),  # type: ignore[arg-type]
        ("on_entries", lambda x: asyncio.run(open_log("memory://").tail(0, "e", x))),
        ("on_progress", lambda x: asyncio.run(copy(open_log("memory://"), open_log("memory://"), on_progress=x))),
        ("on_progress", lambda x: asyncio.run(verify(open_log("memory://"), x))),
    ],
)
def test_async_functions_where_nothing_awaits(name: str, make: Any, function: Any) -> None:
    """They are refused where they are given: they would never run."""
    with pytest.raises(TypeError, match=f"{name} is a plain function, not an async one"):
        make(function)


def test_the_rest_of_a_client() -> None:
    """A gap that is neither, an interval that is no time, a response that is none."""
    with pytest.raises(ValueError, match="on_gap is 'yield' or 'raise', not 'skip'"):
        Options(on_gap="skip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="interval is a number of seconds, 0 or more, not '3'"):
        CursorFile("x", interval="3")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="iter_events takes a response, or an iterable of bytes, not 'data: a'"):
        list(iter_events("data: a"))
    with pytest.raises(TypeError, match="clock is a Clock, not 3"):
        Options(clock=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_comment is a function, not 3"):
        Decoder(on_comment=3)  # type: ignore[arg-type]
    source = EventSource(URL)
    with pytest.raises(TypeError, match="the type of an event is a str, not 3"):
        source.json({3: int})  # type: ignore[dict-item]
    source.close()


def test_no_password_is_shown() -> None:
    """What was given by mistake may be a URL with a password."""
    url: Any = "redis://ada:secret@host/0"
    others: list[Any] = [open_log, Hub, EventSource]
    mistakes = [partial(Runs, url), partial(Log, url), *(partial(make, url.encode()) for make in others)]
    for make in mistakes:
        with pytest.raises(TypeError, match="//host/0") as caught:
            make()
        assert "secret" not in str(caught.value)
