"""`newswire serve`: the standalone server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from newswire import __version__
from newswire.cli.launch import Launch, bind, is_public, launch, url_of
from newswire.cli.log_url import try_log, without_password
from newswire.errors import InvalidSetting
from newswire.server.app import create_app
from newswire.server.config import FILE, Settings, default_of, flag_of, kind_of, load_settings, show_settings

F = TypeVar("F", bound=Callable[..., Any])


def _setting_flags(command: F) -> F:
    """A flag for each setting."""
    for one in reversed(fields(Settings)):
        kind = kind_of(one)
        several = one.name in ("retention", "cors_origins")
        options: dict[str, Any] = {"metavar": kind.metavar, "multiple": several}
        if isinstance(one.default, bool):
            options = {"is_flag": True, "default": None}
        default = "" if options.get("is_flag") else f" [{default_of(one)}]"
        command = click.option(flag_of(one.name), one.name, help=one.metadata["help"] + default, **options)(command)
    return command


@click.command(short_help="Run the standalone server.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="NEWSWIRE_CONFIG",
    help=f"A TOML file of settings [{FILE}, if there is one].",
)
@click.option("--show-config", is_flag=True, help="Print every setting, its value and where it comes from; then exit.")
@_setting_flags
def serve(config: Path | None, show_config: bool, **flags: Any) -> None:
    """Run the standalone server: channels over HTTP, and a console at /.

    Each setting comes from its flag, else from the environment (--max-body is NEWSWIRE_MAX_BODY), else from the TOML
    file (max-body), else from the default in brackets.
    """
    if config is None and Path(FILE).is_file():
        config = Path(FILE)
    try:
        settings, sources = load_settings(flags, os.environ, config)
    except InvalidSetting as error:
        raise click.ClickException(str(error)) from None
    if show_config:
        _show(settings, sources)
        return
    if is_public(settings.host) and not settings.insecure:
        raise click.ClickException(
            f"{settings.host} can be reached from other machines, and whoever can reach it could read and publish "
            "everything: listen on 127.0.0.1 behind something that asks who they are, or say --insecure"
        )
    try_log(settings.log, settings.retention)
    listener = bind(settings.host, settings.port)
    click.secho(f"newswire {__version__} ", bold=True, nl=False, err=True)
    click.echo(f"on {click.style(url_of(listener, settings.host), fg='cyan')}  (the console is there too)", err=True)
    workers = f", {settings.workers} workers" if settings.workers > 1 else ""
    click.secho(f"log {without_password(settings.log)}{workers}; Ctrl-C stops it", dim=True, err=True)
    if settings.workers == 1:
        _launch(settings, None, listener)
    else:
        with tempfile.TemporaryDirectory(prefix="newswire-") as board:
            _launch(settings, Path(board), listener)


def _launch(settings: Settings, board: Path | None, listener: Any) -> None:
    app = partial(create_app, settings, board=board)
    what = Launch(
        app=app, workers=settings.workers, grace=settings.grace, access_log=settings.access_log, more={"lifespan": "on"}
    )
    launch(what, listener)


def _show(settings: Settings, sources: dict[str, str]) -> None:
    rows = list(show_settings(settings, sources))
    wide = max(len(name) for name, _, _ in rows)
    long = max(len(value) for _, value, _ in rows if len(value) <= 40)
    for name, value, source in rows:
        shown = without_password(value) if name == "log" else value
        line = f"{name:{wide}}  {shown:{long}}  "
        click.echo(line + click.style(source, dim=source == "default", fg=None if source == "default" else "green"))
