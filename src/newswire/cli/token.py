"""`newswire token`: a token that a server with the same secret accepts."""

from __future__ import annotations

from typing import Final

import click

from newswire.cli.options import Duration
from newswire.errors import InvalidChannel
from newswire.log.channels import check_pattern

SECRET: Final = click.option(
    "--jwt-secret", required=True, envvar="NEWSWIRE_JWT_SECRET", help="The server's secret (NEWSWIRE_JWT_SECRET)."
)


def patterns(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Check the channel patterns of an option."""
    try:
        return tuple(check_pattern(one) for one in value)
    except InvalidChannel as error:
        raise click.BadParameter(str(error), context, parameter) from None


@click.command(short_help="Print a token (JWT) for a client or a publisher.")
@SECRET
@click.option("--sub", metavar="NAME", help="The user: the claim sub.")
@click.option("--subscribe", multiple=True, metavar="PATTERN", callback=patterns, help="Channels to read. Repeatable.")
@click.option("--publish", multiple=True, metavar="PATTERN", callback=patterns, help="Channels to publish to.")
@click.option("--ttl", type=Duration(), default="1h", metavar="TIME", show_default=True, help="It expires after this.")
@click.option("--audience", multiple=True, metavar="NAME", help="The claim aud: servers that it is for. Repeatable.")
@click.option("--issuer", metavar="NAME", help="The claim iss.")
@click.option("--admin", is_flag=True, help="It may see all connections and end those of others.")
@click.option(
    "--algorithm", type=click.Choice(["HS256", "HS384", "HS512"]), default="HS256", show_default=True, help="Sign so."
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
