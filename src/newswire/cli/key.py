"""`newswire key`: an API key for a program, and its line for the server's file, which has only a hash of it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from newswire.cli.token import patterns


@click.command(short_help="Make an API key for a program that publishes.")
@click.option("--sub", required=True, metavar="NAME", help="The program that gets it.")
@click.option("--publish", multiple=True, metavar="PATTERN", callback=patterns, help="Channels to publish to.")
@click.option("--subscribe", multiple=True, metavar="PATTERN", callback=patterns, help="Channels to read. Repeatable.")
@click.option("--admin", is_flag=True, help="It may see all connections and end those of others.")
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="NEWSWIRE_API_KEYS",
    help="Add its line to this file, the server's --api-keys (NEWSWIRE_API_KEYS).",
)
def key(sub: str, publish: tuple[str, ...], subscribe: tuple[str, ...], admin: bool, file: Path | None) -> None:
    """Print a new API key. It is shown once: the server's file has only its hash.

    Programs send it as Authorization: Bearer KEY. It doesn't expire; take its line out of the file to end it.
    """
    from newswire.server.auth.api_keys import new_key

    if not (publish or subscribe or admin):
        raise click.UsageError("a key that is good for nothing: give --publish, --subscribe or --admin")
    made, line = new_key(sub, subscribe=subscribe, publish=publish, admin=admin)
    if file is None:
        click.echo("The line for the server's file (--api-keys); --file adds it there:", err=True)
        click.echo(line, err=True)
    else:
        try:
            with os.fdopen(
                os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w", encoding="utf-8"
            ) as lines:
                lines.write(line + "\n")
        except OSError as error:
            raise click.ClickException(f"{file} can't be written: {(error.strerror or str(error)).lower()}") from None
    click.echo(made)
