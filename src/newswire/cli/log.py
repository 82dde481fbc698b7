"""`newswire log`: what an operator does with a log. Commands in modules of their own are imported late."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from newswire.cli.group import CommandGroup
from newswire.cli.log_options import opened, or_argument, run, shown, which_log, with_rules
from newswire.cli.terminal import echo_done
from newswire.counted import counted
from newswire.errors import InvalidChannel
from newswire.log.engine import Info, Span
from newswire.log.log import Log
from newswire.log.retention import Rules as Kept
from newswire.log.transactions import ChannelTemplate
from newswire.redact import printable

_LATE: Final = {name: f"newswire.cli.log_{name}" for name in ("tail", "copy", "verify")}


@click.group(cls=CommandGroup, late=_LATE, short_help="Make, look at, trim, copy and verify a log.")
def log() -> None:
    """Make a log, look at it, move it. The log is a URL, as for `newswire serve --log`.

    Only `init` and `copy` make a log that is not there, and only `trim` removes events.
    """


@log.command(short_help="Make the log if it is not there.")
@or_argument
def init(place: str | None, url: str) -> None:
    """Make what a log needs, a file, tables or a stream, and say what was done. Do it again and nothing changes."""
    log = opened(place or url, make=True)

    async def work() -> str:
        try:
            return await log.init()
        finally:
            await log.close()

    click.echo(shown(run(work())))


@log.command(short_help="What the log holds, and what it could lose.")
@or_argument
@with_rules
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def info(place: str | None, url: str, retention: Any, as_json: bool) -> None:
    """Show a log's epoch, span and size, and the durability that its storage is really set to.

    A warning says where an event that was acknowledged can be lost, and what to do.
    """
    url = place or url
    span, found = run(_look(opened(url)))
    rules, whose = Kept(retention), "by a server with the settings that are here"
    if as_json:
        kept = found.retention or f"{rules} ({whose})"
        click.echo(json.dumps(_as_json(url, span, found) | {"retention": kept}, indent=2))
    else:
        _show(url, span, found, found.retention or f"{rules.in_words or 'everything'} ({whose})")


@log.command(short_help="Remove what retention does not keep.")
@or_argument
@with_rules
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def trim(place: str | None, url: str, retention: Any, as_json: bool) -> None:
    """Remove now what the rules don't keep. Readers that were behind get a gap, as from any retention."""
    log = opened(place or url, retention=retention)

    async def work() -> tuple[int, Span]:
        try:
            return await log.trim(), await log.span()
        finally:
            await log.close()

    removed, span = run(work())
    found = {"removed": removed, "earliest": span.earliest, "latest": span.latest}
    done = f"{counted(removed, 'event')} removed"
    echo_done(json.dumps(found) if as_json else f"{done}; {_span(span)}", done)


async def _look(log: Log) -> tuple[Span, Info]:
    try:
        return await log.span(), await log.info()
    finally:
        await log.close()


def _as_json(url: str, span: Span, info: Info) -> dict[str, Any]:
    return {
        "log": shown(url),
        "storage": info.storage,
        "epoch": span.epoch,
        "lives": [{"epoch": life.epoch, "after": life.after} for life in span.lives.all],
        "earliest": span.earliest,
        "latest": span.latest,
        "events": info.events,
        "bytes": info.size,
        "durability": dict(info.settings),
        "warnings": list(info.risks),
    }


def _show(url: str, span: Span, info: Info, kept: str) -> None:
    lives = len(span.lives.all)
    rows = {
        "log": shown(url),
        "storage": info.storage,
        "epoch": span.epoch + ("" if lives == 1 else f" (life {lives}; it began after {span.lives.all[-1].after:,})"),
        "span": _span(span),
        "events": "unknown" if info.events is None else f"{info.events:,}",
        "size": "unknown" if info.size is None else counted(info.size, "byte"),
        "retention": kept,
        **info.settings,
    }
    wide = max(map(len, rows))
    for name, value in rows.items():
        click.echo(click.style(f"{name:{wide}}", dim=True) + f"  {printable(value, lines=False)}")
    if not info.risks:
        click.secho("No acknowledged event is lost unless the storage itself is.", fg="green")
    for risk in info.risks:
        click.secho("warning: ", fg="yellow", bold=True, nl=False)
        click.echo(printable(risk, lines=False))


def _span(span: Span) -> str:
    if span.latest == 0:
        return "no events yet"
    if span.earliest == span.latest:
        return f"no events are kept; the newest was {span.epoch}-{span.latest}"
    return f"{span.epoch}-{span.earliest + 1} to {span.epoch}-{span.latest}"


@log.command(short_help="Write the SQL of a trigger that publishes a table's changes.")
@click.argument("table")
@click.option("--channel", metavar="NAME", help="Where to: 'orders.{id}', with {column} for a value of the row.")
@click.option("--remove", is_flag=True, help="Write the SQL that takes the trigger away.")
@which_log
def watch(table: str, channel: str | None, remove: bool, url: str) -> None:
    """Write the SQL that makes each insert, update and delete of TABLE an event, in the transaction that changes it.

    The event's type is insert, update or delete, and its data is the row as JSON. The table is in the database that the
    log is in. Nothing is changed; the SQL is for you to read and to run:

    \b
    newswire log watch orders --channel 'orders.{id}' --log sqlite:///app.db | sqlite3 app.db
    newswire log watch orders --channel 'orders.{id}' --log postgresql:///shop | psql shop
    """
    if remove == (channel is not None):
        raise click.UsageError("give --channel 'NAME.{column}', or --remove to take the trigger away")
    try:
        template = None if channel is None else ChannelTemplate(channel)
    except InvalidChannel as error:
        raise click.BadParameter(str(error), param_hint="--channel") from None
    log = opened(url)
    if log.engine.transactions is None:
        raise click.ClickException("tables are watched where a log shares their database: sqlite:/// or postgresql://")
    click.echo(run(_sql(log, table, template)), nl=False)


async def _sql(log: Log, table: str, template: ChannelTemplate | None) -> str:
    transactions = log.engine.transactions
    assert transactions is not None
    try:
        await log.span()
        return await transactions.watch(table, template)
    finally:
        await log.close()
