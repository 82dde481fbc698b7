"""`newswire log verify`: looks through a whole log; exit status 1 if something is wrong with it."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from newswire.cli.log_options import opened, or_argument, run
from newswire.counted import counted
from newswire.log.log import Log
from newswire.log.verify import VerifyReport
from newswire.log.verify import verify as look_through
from newswire.redact import printable

_FINDINGS = 1


@click.command(short_help="Look through the whole log for what is wrong.")
@or_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def verify(place: str | None, url: str, as_json: bool) -> None:
    """Check the order, the holes, the epoch and the offsets of all events, and that readers get the same ones.

    Prints what was found; the exit status is 1 if anything is wrong. The log may be in use meanwhile.
    """
    report = run(_verify(opened(place or url)))
    if as_json:
        click.echo(json.dumps(_as_json(report), indent=2))
    else:
        _show(report)
    if report.findings:
        raise SystemExit(_FINDINGS)


async def _verify(log: Log) -> VerifyReport:
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("looking through"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        span = await log.span()
        events = (await log.info()).events
        total = None if span.latest == 0 else 2 * (events if events is not None else span.latest - span.earliest)
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            task = progress.add_task("", total=total)
            return await look_through(log, lambda done: progress.update(task, completed=done))
    finally:
        await log.close()


def _as_json(report: VerifyReport) -> dict[str, object]:
    span = report.span
    return {
        "epoch": span.epoch,
        "earliest": span.earliest,
        "latest": span.latest,
        "events": report.events,
        "channels": report.channels,
        "holes": report.holes,
        "findings": report.findings,
        "more": report.more,
    }


def _show(report: VerifyReport) -> None:
    holes = f", {report.holes:,} offsets whose events were removed" if report.holes else ""
    end = f"{report.span.epoch}-{report.span.latest}"
    click.echo(f"{counted(report.events, 'event')} of {counted(report.channels, 'channel')} up to {end}{holes}")
    for finding in report.findings:
        click.secho("wrong: ", fg="red", bold=True, nl=False)
        click.echo(printable(finding, lines=False))
    if report.more:
        click.echo(f"… and {report.more:,} more")
    if not report.findings:
        click.echo("nothing is wrong")
