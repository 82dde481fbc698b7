"""`newswire log tail`: the events of a log itself, without a server."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import click

from newswire import posix
from newswire.cli.log_options import opened, run, shown, which_log
from newswire.cli.printer import PrintedForm, Printer
from newswire.cli.terminal import discard, say, shown_url
from newswire.errors import InvalidChannel, InvalidPosition
from newswire.hub.hub import Hub
from newswire.log.channels import Channels, Pattern, name_or_pattern
from newswire.log.log import Log
from newswire.log.position import Position
from newswire.wire.event import Event
from newswire.wire.reserved import GAP

_PAGE = 1000


@click.command(short_help="Print the log's events, as they come.")
@click.argument("channels", nargs=-1, metavar="[CHANNEL...]")
@which_log
@click.option(
    "--from",
    "start",
    default="latest",
    show_default=True,
    metavar="earliest|latest|ID",
    help="Where to begin: at the first kept event, with the next one, or after the event with this id.",
)
@click.option("--no-follow", is_flag=True, help="End when everything that is there was printed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: id, channel, event, data.")
@click.option("--raw", is_flag=True, help="The data alone.")
@click.option("--count", "-n", type=click.IntRange(1), metavar="N", help="Stop after so many events.")
def tail(channels: tuple[str, ...], url: str, start: str, no_follow: bool, count: int | None, **options: Any) -> None:
    """Print the events of channels (names, and patterns such as 'orders.*'), or of all, from the log itself.

    Channels that begin with $ are internal; a pattern that begins with the same token shows them. Ctrl-C stops.
    """
    if options["as_json"] and options["raw"]:
        raise click.UsageError("--json and --raw are two forms: choose one")
    for each in channels:
        if "://" in each:
            raise click.UsageError(f"{shown_url(each)!r} is the URL of a log, and no channel: give it by --log")
    form = PrintedForm.JSON if options["as_json"] else PrintedForm.DATA if options["raw"] else PrintedForm.PEOPLE
    try:
        wanted = [name_or_pattern(each) for each in channels] or [Pattern(">")]
        after = None if start in ("earliest", "latest") else Position.parse(start)
    except (InvalidChannel, InvalidPosition) as error:
        raise click.UsageError(shown(str(error))) from None
    if no_follow and start == "latest":
        raise click.UsageError("--no-follow ends at the newest event: say where to begin with --from")
    reading = _Reading(Printer(form), wanted, count)
    log = opened(url)
    try:
        if no_follow:
            run(reading.once(log, after))
        else:
            run(reading.follow(log, after, start))
    except BrokenPipeError:
        # The reader of the output has enough. Python would complain when it flushes at its exit.
        discard(sys.stdout)


class _Reading:
    def __init__(self, printer: Printer, wanted: list[str], count: int | None) -> None:
        self._printer = printer
        self._wanted = wanted
        self._left = count

    async def once(self, log: Log, after: Position | None) -> None:
        """Print what is there."""
        try:
            span = await log.span()
            at = 0
            reported: int | None = 0 if after else None  # what is missing at the beginning is no gap for `earliest`
            if after is not None:
                place = span.lives.resume(after.epoch, after.offset)
                if place is None:
                    raise click.ClickException(f"{after} is no position of this log, which is in its life {span.epoch}")
                if place.lost or place.offset > span.latest:
                    end = Position(span.epoch, place.offset if place.lost else span.latest)
                    raise click.ClickException(
                        f"{after} is past what this log has: --from {end} begins at the end of that"
                    )
                at = place.offset
            while at < span.latest:
                page = await log.read(Channels(self._wanted), at, _PAGE, epoch=span.epoch)
                reported = page.lost if reported is None else reported
                if max(at, reported) < page.lost:
                    self._missing(f"up to {span.epoch}-{page.lost}")
                    reported = page.lost
                for entry in page.entries:
                    id = Position(span.lives.epoch_at(entry.offset), entry.offset)
                    if self._print(Event(entry.data, entry.event, id), entry.channel):
                        return
                at = page.through
        finally:
            await log.close()

    async def follow(self, log: Log, after: Position | None, start: str) -> None:
        """Print what is there after a place, and what comes."""
        async with Hub(log) as hub:
            begin = "earliest" if start == "earliest" else "latest"
            stream = hub.subscribe(*self._wanted, after=after, start=begin)  # type: ignore[arg-type]
            loop = asyncio.get_running_loop()
            posix.on_signals(loop, (signal.SIGINT, signal.SIGTERM), stream.close)
            if sys.stderr.isatty():
                say("waiting; Ctrl-C stops")
            single = self._wanted[0] if len(self._wanted) == 1 else None
            async for event in stream:
                if event.event == GAP:
                    self._missing(event.data[:200])
                elif self._print(event, event.channel or single):
                    return

    def _print(self, event: Event, channel: str | None) -> bool:
        """Returns whether that was enough."""
        self._printer.show(event, channel)
        if self._left is None:
            return False
        self._left -= 1
        return self._left == 0

    @staticmethod
    def _missing(what: str) -> None:
        say(f"events are missing here: {what}")
