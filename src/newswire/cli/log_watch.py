"""`newswire log watch`: writes the SQL of a trigger that publishes each change of a table."""

from __future__ import annotations

import click

from newswire.cli.log_options import opened, run, which_log
from newswire.errors import InvalidChannel
from newswire.log.log import Log
from newswire.log.watch import ChannelTemplate


@click.command(short_help="Write the SQL of a trigger that publishes a table's changes.")
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
