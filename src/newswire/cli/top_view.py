"""What `newswire top` draws: the numbers of a server, its busiest channels, its open streams. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from newswire.redact import printable

_STATES: Final = {"live": "green", "catching_up": "yellow", "stalled": "red", "ending": "dim"}
_COLUMN: Final[dict[str, Any]] = {"no_wrap": True, "overflow": "ellipsis"}
_FEWEST: Final = 3  # rows of a table, however low the terminal is


@dataclass(slots=True)
class Snapshot:
    """What a server said at one moment.

    Attributes:
        url: the server.
        stats: as of `/console/stats`.
        connections: as of `/connections`; None: this server has no such page.
        more: whether there are more connections.
        before: the snapshot before, for rates.
        trouble: why there is no newer one.
    """

    url: str
    stats: Mapping[str, Any]
    connections: Sequence[Mapping[str, Any]] | None
    more: bool = False
    before: Snapshot | None = None
    trouble: str | None = None
    _rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        before = self.before
        if before is None or before.stats["worker"] != self.stats["worker"]:
            return  # each worker counts events by itself
        seconds = self.stats["now"] - before.stats["now"]
        if seconds <= 0:
            return
        known = {one["name"]: one["seen"] for one in before.stats["channels"]}
        for one in self.stats["channels"]:
            if one["name"] in known:
                self._rates[one["name"]] = max(0, one["seen"] - known[one["name"]]) / seconds

    def rate(self, channel: str) -> float | None:
        """Events a second on a channel; None: not known yet."""
        return self._rates.get(channel)

    @property
    def delivered_rate(self) -> float | None:
        """Deliveries a second; None: not known yet."""
        if self.before is None or self.before.stats["started"] != self.stats["started"]:
            return None
        seconds = self.stats["now"] - self.before.stats["now"]
        return max(0, self.stats["delivered"] - self.before.stats["delivered"]) / seconds if seconds > 0 else None

    @property
    def published_rate(self) -> int:
        """Events in the last whole second."""
        newest = int(self.stats["now"]) - 1
        return next((events for second, events in self.stats["recent"] if second == newest), 0)


def view(snapshot: Snapshot, *, height: int | None = None) -> RenderableType:
    """The picture of a snapshot.

    Args:
        snapshot: what to draw.
        height: lines that there are; None: as many as it takes.
    """
    parts: list[RenderableType] = [_head(snapshot), _numbers(snapshot)]
    rows = None if height is None else max(_FEWEST, (height - 9) // 2)
    parts += [Text(), _channels(snapshot, rows)]
    if snapshot.connections is not None:
        parts += [Text(), _streams(snapshot, rows)]
    if height is not None:
        parts.append(Text("q quits", style="dim"))
    return Group(*parts)


def _head(snapshot: Snapshot) -> Text:
    stats = snapshot.stats
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("newswire top", style="bold").append(f"  {printable(snapshot.url, lines=False)}  ", style="cyan")
    state = {"up": "up", "behind": f"{stats['lag']:,} events behind", "down": "away: streams wait"}[stats["log_state"]]
    line.append(f"log {stats['log']}, ").append(state, style=None if stats["log_state"] == "up" else "bold red")
    if stats["workers"] > 1:
        line.append(f"  {stats['workers']:g} workers")
    line.append(f"  since {_age(stats['now'] - stats['started'])}", style="dim")
    if snapshot.trouble is not None:
        line.append(f"  {printable(snapshot.trouble, lines=False)}", style="bold red")
    return line


def _numbers(snapshot: Snapshot) -> Text:
    stats = snapshot.stats
    line = Text(no_wrap=True, overflow="ellipsis")
    delivered = snapshot.delivered_rate
    shown = [
        (f"{stats['subscribers']:,.0f}", "streams", "bold"),
        (f"{stats['stalled']:,.0f}", "stalled", "bold red" if stats["stalled"] else "bold"),
        (f"{snapshot.published_rate:,}/s", "published", "bold"),
        ("–" if delivered is None else f"{delivered:,.0f}/s", "delivered", "bold"),
        ("–" if stats["kept"] is None else f"{stats['kept']:,.0f}", "events kept", "bold"),
        (f"{stats['gaps']:,.0f}", "gaps", "bold yellow" if stats["gaps"] else "bold"),
    ]
    for number, word, style in shown:
        line.append(number, style=style).append(f" {word}   ")
    return line


def _table(*columns: tuple[str, Literal["left", "right"], int]) -> Table:
    """A table of these columns: title, side, and how much of the room that is left it gets."""
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title, side, ratio in columns:
        table.add_column(title, justify=side, ratio=ratio or None, **_COLUMN)
    return table


def _channels(snapshot: Snapshot, rows: int | None) -> RenderableType:
    channels = sorted(
        snapshot.stats["channels"],
        key=lambda one: (-(snapshot.rate(one["name"]) or 0), -one["subscribers"], -one["events"], one["name"]),
    )
    table = _table(("channel", "left", 1), ("per s", "right", 0), ("events", "right", 0), ("streams", "right", 0))
    for one in channels[:rows]:
        rate = snapshot.rate(one["name"])
        shown = "–" if rate is None else f"{rate:,.1f}" if rate < 10 else f"{rate:,.0f}"
        name = Text(printable(one["name"], lines=False))
        table.add_row(name, shown, f"{one['events']:,}", f"{one['subscribers']:,}")
    return table if channels else Text("no channel yet", style="dim")


def _streams(snapshot: Snapshot, rows: int | None) -> RenderableType:
    streams = snapshot.connections or ()
    if not streams:
        return Text("no stream is open", style="dim")
    table = _table(
        ("stream", "left", 1), ("user", "left", 0), ("address", "left", 0), ("state", "left", 0),
        ("behind", "right", 0), ("for", "right", 0),
    )  # fmt: skip
    # What needs a look comes first; a screen shows no more than fits.
    order = sorted(streams, key=lambda one: (one["state"] == "live", -one["behind"], one["since"]))
    for one in order[:rows]:
        more = f" and {one['more_channels']:,} more" if "more_channels" in one else ""
        table.add_row(
            Text(printable(" ".join(one["channels"]), lines=False) + more),
            Text(printable(one["subject"] or "–", lines=False)),
            one["address"] or "–",
            Text(one["state"].replace("_", " "), style=_STATES.get(one["state"], "")),
            f"{one['behind']:,}",
            _age(snapshot.stats["now"] - one["since"]),
        )
    hidden = len(streams) - len(order[:rows])
    if not hidden and not snapshot.more:
        return table
    beyond = "more" if snapshot.more else f"{hidden:,} more"
    return Group(table, Text(f"{beyond}: newswire top --channel NAME shows fewer", style="dim"))


def _age(seconds: float) -> str:
    """A time in two units at most: `3d 4h`, `5m 12s`, `8s`."""
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    whole = max(0, int(seconds))
    for index, (unit, size) in enumerate(units):
        if whole >= size:
            rest = f" {whole % size // units[index + 1][1]}{units[index + 1][0]}" if unit != "s" else ""
            return f"{whole // size}{unit}{rest}"
    return "0s"
