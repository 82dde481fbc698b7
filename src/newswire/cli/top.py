"""`newswire top`: what a server does now, in a terminal. It reads what the console and admins read, and draws it.

In a terminal the picture takes the whole screen, and goes on until `q` or Ctrl-C; then the screen is as before. In a
pipe or a file each picture follows the one before.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, Literal

import click
import httpx2
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from newswire import __version__, posix
from newswire.cli.options import BY_TOKEN, SERVER_URL, TOKEN, Duration, bearer
from newswire.cli.terminal import discard, say, shown_url, unreachable, wants_colours
from newswire.counted import counted
from newswire.redact import printable

_STATES: Final = {"live": "green", "catching_up": "yellow", "stalled": "red", "ending": "dim"}
_COLUMN: Final[dict[str, Any]] = {"no_wrap": True, "overflow": "ellipsis"}
_ONE: Final = {"streams": "stream", "events kept": "event kept", "gaps": "gap"}
_FEWEST: Final = 3  # rows of a table, however low the terminal is


@dataclass(slots=True)
class ServerSnapshot:
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
    before: ServerSnapshot | None = None
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


def view(snapshot: ServerSnapshot, *, height: int | None = None) -> RenderableType:
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


def _head(snapshot: ServerSnapshot) -> Text:
    stats = snapshot.stats
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("newswire top", style="bold").append(f"  {shown_url(snapshot.url)}  ", style="cyan")
    state = {"up": "up", "behind": f"{counted(stats['lag'], 'event')} behind", "down": "away: streams wait"}[
        stats["log_state"]
    ]
    line.append(f"log {printable(stats['log'], lines=False)}, ").append(
        state, style=None if stats["log_state"] == "up" else "bold red"
    )
    if stats["workers"] > 1:
        line.append(f"  {stats['workers']:g} workers")
    line.append(f"  started {_age(stats['now'] - stats['started'])} ago", style="dim")
    if snapshot.trouble is not None:
        line.append(f"  {printable(snapshot.trouble, lines=False)}", style="bold red")
    return line


def _numbers(snapshot: ServerSnapshot) -> Text:
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
        line.append(number, style=style).append(f" {_ONE.get(word, word) if number == '1' else word}   ")
    return line


def _table(*columns: tuple[str, Literal["left", "right"], int]) -> Table:
    """A table of these columns: title, side, and how much of the room that is left it gets."""
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title, side, ratio in columns:
        table.add_column(title, justify=side, ratio=ratio or None, **_COLUMN)
    return table


def _channels(snapshot: ServerSnapshot, rows: int | None) -> RenderableType:
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


def _streams(snapshot: ServerSnapshot, rows: int | None) -> RenderableType:
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
            Text(printable(one["address"] or "–", lines=False)),
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


_STREAMS: Final = 200  # in one picture
_PIPE_WIDTH: Final = 120
_REFUSED, _UNREACHABLE = 1, 3
# What a picture is drawn from. Another server's answer has none of it.
_STATS: Final = {
    *("worker", "workers", "started", "now", "channels", "delivered", "recent", "subscribers"),
    *("stalled", "kept", "gaps", "log", "log_state", "lag"),
}


class _Refused(Exception):
    """The server does not show this."""


@click.command(short_help="Watch a server's channels and streams in a terminal.")
@SERVER_URL
@TOKEN
@click.option("--channel", metavar="NAME", help="Only the streams that get this channel, or something of this pattern.")
@click.option("--subject", metavar="NAME", help="Only the streams of this user.")
@click.option(
    "--interval", type=Duration(), default=1.0, show_default="1s", metavar="TIME", help="How often to ask the server."
)
@click.option("--once", is_flag=True, help="Print the numbers once, then exit.")
def top(url: str, token: str | None, channel: str | None, subject: str | None, interval: float, once: bool) -> None:
    """Watch a server: its numbers, its busiest channels, its open streams. In a terminal, q ends it.

    Where the server asks for credentials, give a token with the claim `admin`.

    Exit code: 1 the server does not show this, 3 it can't be reached.
    """
    headers = {"user-agent": f"newswire/{__version__}", **bearer(token)}
    wanted = {"channel": channel, "subject": subject}
    query = {"limit": str(_STREAMS), **{name: value for name, value in wanted.items() if value is not None}}
    with httpx2.Client(base_url=url, timeout=10.0, headers=headers) as client:
        try:
            snapshot = _ask(client, url, query, None)
            if once or not (sys.stdout.isatty() and sys.stdin.isatty()):
                _print(client, url, query, snapshot, None if once else interval)
            else:
                _watch(client, url, query, snapshot, interval)
        except _Refused as error:
            say(str(error))
            raise SystemExit(_REFUSED) from None
        except httpx2.HTTPError as error:
            say(unreachable(url, error))
            raise SystemExit(_UNREACHABLE) from None


def _ask(client: httpx2.Client, url: str, query: dict[str, str], before: ServerSnapshot | None) -> ServerSnapshot:
    stats = _json(client.get("console/stats"), _STATS)
    answer = client.get("connections", params=query)
    page: dict[str, Any] = (
        {"connections": None, "next": None} if answer.status_code == 404 else _json(answer, {"connections", "next"})
    )
    return ServerSnapshot(url, stats, page["connections"], page["next"] is not None, before)


def _json(answer: httpx2.Response, names: Set[str]) -> Any:
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        found = None
    if answer.status_code == 200 and isinstance(found, dict) and found.keys() >= names:
        return found
    detail = found.get("detail") if isinstance(found, dict) else None
    if answer.status_code in (401, 403):
        raise _Refused(f"{detail or 'the server asks for a credential'}; {BY_TOKEN}")
    url = shown_url(str(answer.url))
    raise _Refused(str(detail or f"{url} answers {answer.status_code}, as no newswire server does"))


class _Pipe(Console):
    def on_broken_pipe(self) -> None:  # rich's own ends with status 1, which says something else
        raise BrokenPipeError


def _print(
    client: httpx2.Client, url: str, query: dict[str, str], snapshot: ServerSnapshot, again: float | None
) -> None:
    """Print pictures one after the other; one, if `again` is None."""
    console = _Pipe(no_color=not wants_colours(), highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    try:
        while True:
            console.print(view(snapshot))
            if again is None:
                return
            console.print()
            time.sleep(again)
            snapshot.before = None  # of two pictures only the newer is kept
            snapshot = _ask(client, url, query, snapshot)
    except (KeyboardInterrupt, BrokenPipeError):
        # What is left in the buffer goes nowhere, and says nothing of it.
        discard(sys.stdout)


def _watch(client: httpx2.Client, url: str, query: dict[str, str], snapshot: ServerSnapshot, interval: float) -> None:
    console = Console(no_color=not wants_colours(), highlight=False)

    def picture() -> Any:
        return view(snapshot, height=console.size.height)

    with _keys() as key, Live(picture(), console=console, screen=True, auto_refresh=False) as live:
        live.refresh()
        while key(interval) not in ("q", "Q", "\x03"):
            try:
                snapshot.before = None
                snapshot = _ask(client, url, query, snapshot)
            except httpx2.HTTPError as error:
                snapshot.trouble = unreachable(url, error)  # what was last known stays, until the server is back
            live.update(picture(), refresh=True)


@contextmanager
def _keys() -> Iterator[Callable[[float], str | None]]:
    """Reads keys as they are pressed. Gives a function that waits so long for one; None: none was pressed."""
    number = sys.stdin.fileno()
    ended: list[str] = []

    def end(signal_number: int, frame: FrameType | None) -> None:
        ended.append("q")

    signals = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}

    def key(seconds: float) -> str | None:
        until = time.monotonic() + seconds
        while not ended and (left := until - time.monotonic()) > 0:
            # A signal does not end `select`: PEP 475. So it looks four times a second whether there was one.
            if not each:
                time.sleep(min(left, 0.25))  # Ctrl-C ends it, and no key
            elif select.select([number], [], [], min(left, 0.25))[0]:
                return os.read(number, 1).decode("latin-1") or "q"  # empty: the terminal is gone
        return ended[0] if ended else None

    try:
        with posix.single_keys(number) as each:
            yield key
    finally:
        for one, handler in signals.items():
            signal.signal(one, handler)
