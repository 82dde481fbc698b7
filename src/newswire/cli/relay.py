"""`newswire relay`: completions of an AI API that can be resumed, stopped, and watched by many."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import click

from newswire import __version__
from newswire.cli.launch import Launch, bind, is_public, launch, stop_in_order, url_of
from newswire.cli.log_url import try_log
from newswire.cli.settings import with_settings
from newswire.redact import without_userinfo
from newswire.relay.served import create_relay
from newswire.relay.settings import RELAY, RelaySettings


@click.command(short_help="Relay an AI API: answers that can be resumed, stopped and watched.")
@with_settings(RELAY)
def relay(settings: RelaySettings) -> None:
    """Relay an OpenAI- or Anthropic-compatible API.

    Point a client's base URL here. A completion with "stream": true goes on when its client is gone, and can be read
    again at the address in Content-Location; all else is passed on as it is.

    At least one --upstream is needed. Each setting comes from its flag, else from the environment (--max-body is
    NEWSWIRE_RELAY_MAX_BODY), else from the TOML file (max-body, below [relay]), else from the default in brackets.
    """
    if is_public(settings.host) and not settings.insecure:
        raise click.ClickException(
            f"{settings.host} can be reached from other machines, which would send their keys here without encryption: "
            "listen on 127.0.0.1 behind something that speaks HTTPS, or say --insecure"
        )
    try_log(settings.log)
    stop_in_order()
    listener = bind(settings.host, settings.port)
    url = url_of(listener, settings.host)
    click.secho(f"newswire {__version__} ", bold=True, nl=False, err=True)
    click.echo(f"relays on {click.style(url, fg='cyan')}", err=True)
    for upstream in settings.upstreams:
        place = f"{url}/{upstream.name}" if upstream.name else url
        click.echo(f"  {click.style(place, fg='cyan')}  →  {without_userinfo(upstream.url)}", err=True)
    workers = f", {settings.workers} workers" if settings.workers > 1 else ""
    click.secho(f"log {without_userinfo(settings.log)}{workers}; Ctrl-C stops it", dim=True, err=True)
    with tempfile.TemporaryDirectory(prefix="newswire-") as board:
        app = partial(create_relay, settings, board=Path(board) if settings.workers > 1 else None)
        what = Launch(
            app=app,
            workers=settings.workers,
            grace=settings.grace,
            access_log=settings.access_log,
            more={"lifespan": "on"},
        )
        launch(what, listener)
