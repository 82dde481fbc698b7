"""`newswire ticket`: a stream ticket that a server with the same secret accepts once."""

from __future__ import annotations

import time

import click

from newswire.cli.options import Duration
from newswire.cli.token import SECRET, patterns


@click.command(short_help="Print a ticket, which opens a stream from a URL, once.")
@SECRET
@click.option("--sub", metavar="NAME", help="The user.")
@click.option(
    "--subscribe", multiple=True, required=True, metavar="PATTERN", callback=patterns, help="Channels. Repeatable."
)
@click.option("--ttl", type=Duration(), default="30s", metavar="TIME", show_default=True, help="Use it within this.")
@click.option(
    "--lease", type=Duration(), default="12h", metavar="TIME", show_default=True, help="Reconnects go on for this."
)
def ticket(jwt_secret: str, sub: str | None, subscribe: tuple[str, ...], ttl: float, lease: float) -> None:
    """Print a stream ticket that `newswire serve --jwt-secret` with the same secret accepts.

    For a URL, /channels/room.1?ticket=TICKET, since a browser's EventSource can't set headers. The first client that
    uses it keeps it, and no other gets in. Applications make tickets with POST /tickets.
    """
    from newswire.server.auth.tickets import derived_key, new_ticket

    key = derived_key(jwt_secret)
    made, _ = new_ticket(key, subject=sub, subscribe=subscribe, first_use=ttl, until=time.time() + lease)
    click.echo(made)
