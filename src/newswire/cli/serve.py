"""`newswire serve`: the standalone server."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click

from newswire import __version__
from newswire.cli.launch import Launch, bind, is_public, launch, stop_in_order, url_of
from newswire.cli.log_url import try_log
from newswire.cli.settings import with_settings
from newswire.redact import without_userinfo
from newswire.server.app import create_app
from newswire.server.settings import SERVE, Settings


@click.command(short_help="Run the standalone server.")
@with_settings(SERVE)
def serve(settings: Settings) -> None:
    """Run the standalone server: channels over HTTP, and a console at /.

    Each setting comes from its flag, else from the environment (--max-body is NEWSWIRE_MAX_BODY), else from the TOML
    file (max-body), else from the default in brackets.
    """
    if is_public(settings.host) and not settings.insecure:
        raise click.ClickException(
            f"{settings.host} can be reached from other machines, and whoever can reach it could read and publish "
            "everything: listen on 127.0.0.1 behind something that asks who they are, or say --insecure"
        )
    try_log(settings.log)
    stop_in_order()
    listener = bind(settings.host, settings.port)
    click.secho(f"newswire {__version__} ", bold=True, nl=False, err=True)
    click.echo(f"on {click.style(url_of(listener, settings.host), fg='cyan')}  (the console is there too)", err=True)
    workers = f", {settings.workers} workers" if settings.workers > 1 else ""
    click.secho(f"log {without_userinfo(settings.log)}{workers}; Ctrl-C stops it", dim=True, err=True)
    if settings.workers == 1:
        _launch(settings, None, listener)
    else:
        with tempfile.TemporaryDirectory(prefix="newswire-") as board:
            _launch(settings, Path(board), listener)


def _launch(settings: Settings, board: Path | None, listener: Any) -> None:
    app = partial(create_app, settings, board=board)
    what = Launch(
        app=app,
        workers=settings.workers,
        grace=settings.grace,
        access_log=settings.access_log,
        more={"lifespan": "on", "proxy_headers": settings.access_log},  # who asks is only told to that log
    )
    launch(what, listener)
