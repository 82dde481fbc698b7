"""`newswire serve`: the standalone server."""

from __future__ import annotations

from pathlib import Path

import click
from starlette.applications import Starlette

from newswire.cli.served import serve_app
from newswire.cli.settings import ServingCommand, reader_of, with_settings
from newswire.server.app import create_app
from newswire.server.settings import Settings
from newswire.serving.reload import Again


@click.command(cls=ServingCommand, short_help="Run the standalone server.")
@with_settings(Settings)
def serve(settings: Settings) -> None:
    """Run the standalone server: channels over HTTP, and a console at /.

    Each setting comes from its flag, else from the environment (--max-body is NEWSWIRE_MAX_BODY), else from the TOML
    file (max-body), else from the default in brackets. SIGHUP reads the file and the keys again.
    """
    serve_app(
        settings,
        create_again,
        danger="and every client that reaches it could read and publish everything: give --jwt-secret or another key "
        "(docs/auth.md), listen on 127.0.0.1 behind a proxy that authenticates them",
        banner=lambda url: [f"on {url}  (the console is there too)"],
        again=reader_of("newswire.cli.serve:serve", Settings),
    )


def create_again(settings: Settings, *, again: Again, stats_folder: Path | None) -> Starlette:
    """Make the application, in each process; it reads its settings again on SIGHUP."""
    app = create_app(settings, stats_folder=stats_folder)
    app.state.service.again = again
    return app
