"""The commands that serve: `serve` and `run`; and the group that all commands belong to."""

from __future__ import annotations

import ipaddress
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click
import uvicorn

import newswire as package
from newswire.cli.publish import publish
from newswire.cli.tail import tail
from newswire.server.app import create_app
from newswire.server.config import BadSetting, Settings, load_settings

DIRECT = "newswire.delivery.uvicorn:DirectHttpProtocol"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package.__version__)
def newswire() -> None:
    """Server-Sent Events, end to end: publish an event, and every subscriber reads it from where it left off."""


@newswire.command()
@click.option("--log", help="The log's URL: sqlite:///newswire.db, memory://")
@click.option("--host", help="The address to listen on.")
@click.option("--port", type=int, help="The port to listen on.")
@click.option("--workers", type=int, help="Processes; they share the log.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings [newswire.toml].")
@click.option("--insecure", is_flag=True, default=None, help="Allow a public address without any auth.")
@click.option("--show-config", is_flag=True, help="Print every setting and where it comes from, then exit.")
def serve(config: Path | None, show_config: bool, **flags: object) -> None:
    """Run the standalone server."""
    default = Path("newswire.toml")
    try:
        settings, sources = load_settings(flags, os.environ, config or (default if default.exists() else None))
    except BadSetting as error:
        raise click.ClickException(str(error)) from None
    if show_config:
        for name, value in asdict(settings).items():
            click.echo(f"{name} = {value!r}  # {sources[name]}")
        return
    if not settings.insecure and not _is_local(settings.host):
        raise click.ClickException(
            f"{settings.host} can be reached from outside, and anybody could read and publish: listen on 127.0.0.1 "
            "behind something that asks who they are, or say --insecure"
        )
    for name, value in asdict(settings).items():
        os.environ[f"NEWSWIRE_{name.upper()}"] = str(value)  # for the workers
    click.echo(f"newswire on http://{settings.host}:{settings.port}  log {settings.log}", err=True)
    _serve("newswire.cli.commands:app_of_environment", settings, factory=True)


def app_of_environment() -> object:
    """The application of a worker process."""
    settings, _ = load_settings({}, os.environ, None)
    return create_app(settings)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _serve(app: str, settings: Settings, *, factory: bool = False) -> None:
    uvicorn.run(
        app,
        factory=factory,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http=DIRECT,
        log_level="warning",
        backlog=4096,
        timeout_graceful_shutdown=int(settings.grace) + 1,
    )


@newswire.command()
@click.argument("app")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
@click.option("--workers", default=1, show_default=True)
@click.option("--app-dir", default=".", help="Where to import the module from.")
def run(app: str, host: str, port: int, workers: int, app_dir: str) -> None:
    """Run any ASGI application, MODULE:APP, on uvicorn with the direct path and streams that end when asked."""
    sys.path.insert(0, app_dir)
    _serve(app, Settings(host=host, port=port, workers=workers))


newswire.add_command(publish)
newswire.add_command(tail)
