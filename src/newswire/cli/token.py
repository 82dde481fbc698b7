"""`newswire token`, `ticket` and `key`: what lets a client in at a server that asks for credentials.

A token and a ticket are accepted by a server with the same secret, a ticket once. An API key is for a program; the
server's file has only a hash of it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from newswire.cli.options import Duration
from newswire.cli.terminal import echo_done
from newswire.errors import InvalidChannel
from newswire.extras import Extra
from newswire.log.channels import check_pattern


def _secret(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """A secret that a server can have."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("a secret is a text that UTF-8 can write: this one has bytes that are none") from None
    if not value:
        raise click.BadParameter("a secret must not be empty")
    return value


SECRET: Final = click.option(
    "--jwt-secret",
    required=True,
    callback=_secret,
    envvar="NEWSWIRE_JWT_SECRET",
    show_envvar=True,
    help="The server's secret.",
)


def patterns(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Check the channel patterns of an option."""
    try:
        return tuple(check_pattern(one) for one in value)
    except InvalidChannel as error:
        raise click.BadParameter(str(error), context, parameter) from None


@contextlib.contextmanager
def needs_jwt() -> Iterator[None]:
    """Says in one line what to install where PyJWT is missing."""
    try:
        with Extra("this command", "auth"):
            yield
    except ModuleNotFoundError as error:
        raise click.ClickException(str(error)) from None


def _subject(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A name that can be revoked; an empty one is a shell's variable that is not set."""
    from newswire.delivery.ticket_request import check_subject

    if value is not None:
        try:
            check_subject(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return value


@click.command(short_help="Print a token (JWT) for a client or a publisher.")
@SECRET
@click.option("--sub", metavar="NAME", callback=_subject, help="The user: the claim sub.")
@click.option("--subscribe", multiple=True, metavar="PATTERN", callback=patterns, help="Channels to read. Repeatable.")
@click.option("--publish", multiple=True, metavar="PATTERN", callback=patterns, help="Channels to publish to.")
@click.option(
    "--ttl", type=Duration(), default="1h", metavar="TIME", show_default=True, help="How long it is good for."
)
@click.option("--audience", multiple=True, metavar="NAME", help="The claim aud: servers that it is for. Repeatable.")
@click.option("--issuer", metavar="NAME", help="The claim iss.")
@click.option("--admin", is_flag=True, help="It may see all connections and end those of others.")
@click.option(
    "--algorithm",
    type=click.Choice(["HS256", "HS384", "HS512"]),
    default="HS256",
    show_default=True,
    help="How to sign it.",
)
def token(
    jwt_secret: str,
    sub: str | None,
    subscribe: tuple[str, ...],
    publish: tuple[str, ...],
    ttl: float,
    audience: tuple[str, ...],
    issuer: str | None,
    admin: bool,
    algorithm: str,
) -> None:
    """Print a token that `newswire serve --jwt-secret` with the same secret accepts.

    Clients send it as Authorization: Bearer TOKEN. It is good for what --subscribe and --publish name, and nothing
    else. For tests and scripts; an application makes tokens with any JWT library.
    """
    from newswire.server.auth.tokens import new_token

    more: dict[str, object] = {"aud": list(audience)} if audience else {}
    if issuer is not None:
        more["iss"] = issuer
    try:
        with needs_jwt():
            made = new_token(
                jwt_secret,
                subject=sub,
                subscribe=subscribe,
                publish=publish,
                ttl=ttl,
                admin=admin,
                more=more,
                algorithm=algorithm,
            )
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--jwt-secret") from None
    click.echo(made)


@click.command(short_help="Print a ticket, which opens a stream from a URL, once.")
@SECRET
@click.option("--sub", metavar="NAME", callback=_subject, help="The user.")
@click.option(
    "--subscribe", multiple=True, required=True, metavar="PATTERN", callback=patterns, help="Channels. Repeatable."
)
@click.option(
    "--ttl", type=Duration(), default="30s", metavar="TIME", show_default=True, help="How soon it has to be used."
)
@click.option(
    "--lease",
    type=Duration(),
    default="12h",
    metavar="TIME",
    show_default=True,
    help="How long its client may reconnect.",
)
def ticket(jwt_secret: str, sub: str | None, subscribe: tuple[str, ...], ttl: float, lease: float) -> None:
    """Print a stream ticket that `newswire serve --jwt-secret` with the same secret accepts.

    For a URL, /channels/room.1?ticket=TICKET, since a browser's EventSource can't set headers. The first client that
    uses it keeps it, and no other gets in. Applications make tickets with POST /tickets.
    """
    from newswire.server.auth.tickets import derived_key, new_ticket

    key = derived_key(jwt_secret)
    with needs_jwt():
        made, _ = new_ticket(key, subject=sub, subscribe=subscribe, first_use=ttl, until=time.time() + lease)
    click.echo(made)


@click.command(short_help="Make an API key for a program that publishes.")
@click.option("--sub", required=True, metavar="NAME", callback=_subject, help="The program that gets it.")
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
    from newswire.server.auth.api_keys import add_line, new_key

    if not (publish or subscribe or admin):
        raise click.UsageError("a key that is good for nothing: give --publish, --subscribe or --admin")
    try:
        made, line = new_key(sub, subscribe=subscribe, publish=publish, admin=admin)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--sub") from None
    if file is None:
        click.echo("The line for the server's file (--api-keys); --file adds it there:", err=True)
        click.echo(line, err=True)
    else:
        try:
            add_line(file, line)
        except OSError as error:
            raise click.ClickException(f"{file} can't be written: {(error.strerror or str(error)).lower()}") from None
    if file is None:
        click.echo(made)
    else:
        echo_done(made, f"{file} has the line of a key that is lost now (take it out, and make another)")
