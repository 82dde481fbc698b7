"""`newswire run`: any ASGI application on uvicorn, with the direct path and streams that end when asked."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from newswire import __version__
from newswire.cli.launch import Launch, bind, launch, stop_in_order, url_of
from newswire.cli.options import Duration
from newswire.cli.target import BEGUN, STARTUP_FAILURE, VARIABLE, Drained, NotRunnable, find, look_for

TARGET: Final = "newswire.cli.target:load"


@click.command(short_help="Run any ASGI application, with the direct path and a drain.")
@click.argument("app", metavar="MODULE:APP")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 512), default=1, show_default=True, help="Processes.")
@click.option("--reload", is_flag=True, help="Start again when the code changes.")
@click.option("--reload-dir", multiple=True, metavar="DIR", help="Watch this folder, not the present one.")
@click.option("--app-dir", default=".", show_default=True, help="Where to import the module from.")
@click.option("--factory", is_flag=True, help="APP is a callable that gives the application.")
@click.option(
    "--drain",
    type=click.Choice(["goodbye", "drain"]),
    default="goodbye",
    show_default=True,
    help="On SIGTERM: every stream says goodbye at once, or finite ones may end by themselves first.",
)
@click.option(
    "--grace",
    type=Duration(),
    default="10s",
    metavar="TIME",
    show_default=True,
    help="What streams are given to end when the server stops.",
)
@click.option("--ssl-certfile", type=click.Path(exists=True, dir_okay=False), help="Serve HTTPS with this certificate.")
@click.option("--ssl-keyfile", type=click.Path(exists=True, dir_okay=False), help="Its key.")
@click.option("--root-path", default="", metavar="PATH", help="The path that a proxy puts this application under.")
@click.option("--forwarded-allow-ips", metavar="IPS", help="Proxies whose X-Forwarded-* headers are believed.")
@click.option(
    "--log-level",
    type=click.Choice(["critical", "error", "warning", "info", "debug", "trace"]),
    default="warning",
    show_default=True,
)
@click.option("--access-log", is_flag=True, help="Write a line for each request.")
def run(app: str, host: str, port: int, **options: Any) -> None:
    """Run any ASGI application on uvicorn with the direct path and a drain.

    The options are uvicorn's, as far as there are any. Where you start uvicorn yourself, give it
    --http newswire.delivery.uvicorn:DirectHttpProtocol for the same.
    """
    module, colon, attribute = app.partition(":")
    if not (module and colon and attribute):
        raise click.UsageError(f"{app!r} is not MODULE:APP, such as main:app")
    if options["reload"] and options["workers"] > 1:
        raise click.UsageError("--reload runs one process: leave out --workers")
    sys.path.insert(0, options["app_dir"])
    alone = options["workers"] == 1 and not options["reload"]
    try:  # before the port is taken, and before anything is said
        look_for(module)
        found = find(app, factory=options["factory"]) if alone else None
    except NotRunnable as error:
        click.echo(f"newswire: {error}", err=True)
        raise SystemExit(STARTUP_FAILURE) from None
    stop_in_order()
    listener = bind(host, port)
    url = url_of(listener, host, tls=options["ssl_certfile"] is not None)
    banner = f"{click.style(f'newswire {__version__}', bold=True)} runs {app} on {click.style(url, fg='cyan')}; "
    banner += "Ctrl-C stops it"
    with tempfile.TemporaryDirectory(prefix="newswire-") as folder:
        wishes = {name: options[name] for name in ("factory", "drain", "grace", "workers")}
        wishes |= {"app": app, "banner": banner, "folder": folder}
        os.environ[VARIABLE] = json.dumps(wishes)
        if alone:
            click.echo(banner, err=True)
        _launch(partial(Drained, found, options["drain"], options["grace"]) if alone else TARGET, options, listener)
        if options["workers"] > 1 and not (Path(folder) / BEGUN).exists():
            raise SystemExit(STARTUP_FAILURE)  # no worker got as far as that


def _launch(app: str | Callable[[], Any], options: Mapping[str, Any], listener: socket.socket) -> None:
    passed = ("ssl_certfile", "ssl_keyfile", "root_path", "forwarded_allow_ips")
    what = Launch(
        app=app,
        workers=options["workers"],
        reload=options["reload"],
        reload_dirs=options["reload_dir"],
        grace=options["grace"],
        log_level=options["log_level"],
        access_log=options["access_log"],
        more={name: options[name] for name in passed},
    )
    launch(what, listener)
