"""What an edge and its origin say to each other: values of `newswire.log.engine` as JSON, and back.

Both ends take them from here, so they can't differ. `newswire.server.edges` has the origin's end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from newswire.errors import LogCorrupt, LogError, LogUnavailable, LogUncertain, TokenReused
from newswire.log.channels import Channels, Pattern
from newswire.log.engine import Batch, Condition, Entry, Info, Known, Losses, Outcome, Page, Span
from newswire.log.position import Life, Lives
from newswire.wire.event import Event

# The events of the stream that an edge reads: entries, another epoch, or the offset up to which events are gone.
ENTRIES: Final = "entries"
EPOCH: Final = "epoch"
TRIMMED: Final = "trimmed"

_ERRORS: Final[Mapping[str, type[LogError]]] = {
    each.__name__: each for each in (LogError, LogUnavailable, LogUncertain, LogCorrupt, TokenReused)
}


def rows_of(entries: Sequence[Entry]) -> list[Any]:
    """Entries, each as a list."""
    return [list(entry) for entry in entries]


def entries_of(rows: Any) -> list[Entry]:
    """The opposite."""
    return [Entry(*row) for row in rows]


def of_channels(channels: Channels) -> dict[str, Any]:
    """A set of channels."""
    return {"names": sorted(channels.names), "patterns": sorted(channels.patterns)}


def to_channels(found: Any) -> Channels:
    """The opposite.

    Raises:
        InvalidChannel: one breaks the rules.
    """
    return Channels([*map(str, found["names"]), *(Pattern(str(each)) for each in found["patterns"])])


def of_page(page: Page) -> dict[str, Any]:
    """A page."""
    return {
        "entries": rows_of(page.entries),
        "through": page.through,
        "lost": page.lost,
        "doubt": page.doubt,
        "epoch": page.epoch,
    }


def to_page(found: Any) -> Page:
    """The opposite."""
    entries = entries_of(found["entries"])
    return Page(entries, found["through"], found["lost"], found["doubt"], epoch=found["epoch"])


def of_span(span: Span) -> dict[str, Any]:
    """A span, with all lives."""
    return {"earliest": span.earliest, "latest": span.latest, "lives": [list(life) for life in span.lives.all]}


def to_span(found: Any) -> Span:
    """The opposite."""
    lives = Lives([Life(str(epoch), int(after)) for epoch, after in found["lives"]])
    return Span(lives.epoch, found["earliest"], found["latest"], lives)


def of_batch(batch: Batch, token: str) -> dict[str, Any]:
    """A batch, under a token."""
    condition = batch.condition
    return {
        "events": [[channel, event.event, event.data] for channel, event in batch.events],
        "condition": None if condition is None else list(condition),
        "token": token,
    }


def to_batch(found: Any) -> Batch:
    """The opposite.

    Raises:
        InvalidEvent: an event can't be one.
    """
    events = [(str(channel), Event(str(data), str(event))) for channel, event, data in found["events"]]
    condition = found["condition"]
    if condition is not None:
        channel, newest, epoch = condition
        condition = Condition(str(channel), int(newest), str(epoch))
    token = found["token"]
    return Batch(events, condition, None if token is None else str(token))


def of_outcome(outcome: Outcome) -> Any:
    """An outcome; an error as its kind and its text."""
    if type(outcome) is Known:
        return {"known": int(outcome)}
    if not isinstance(outcome, LogError):
        return outcome
    kind = next(each.__name__ for each in type(outcome).__mro__ if each.__name__ in _ERRORS)
    return {"error": kind, "detail": str(outcome)}


def to_outcome(found: Any) -> Outcome:
    """The opposite."""
    if isinstance(found, dict):
        if "known" in found:
            return Known(found["known"])
        if found["error"] == TokenReused.__name__:
            return TokenReused()
        return _ERRORS.get(found["error"], LogError)(found["detail"])
    return None if found is None else int(found)


def of_losses(losses: Losses) -> dict[str, Any]:
    """Losses."""
    return {"channels": dict(losses.channels), "shapes": dict(losses.shapes)}


def to_losses(found: Any) -> Losses:
    """The opposite."""
    return Losses(found["channels"], found["shapes"])


def of_info(info: Info) -> dict[str, Any]:
    """What the origin tells of its storage."""
    return {
        "storage": info.storage,
        "settings": dict(info.settings),
        "risks": list(info.risks),
        "retention": info.retention,
        "events": info.events,
        "size": info.size,
    }


def to_info(found: Any) -> Info:
    """The opposite."""
    return Info(**found)
