"""`newswire run`: any ASGI application on uvicorn, with the direct path and streams that end when asked."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from newswire import __version__
from newswire.cli.launch import Launch, bind, launch, url_of
from newswire.cli.target import VARIABLE


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
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds that streams have to end when the server stops.",
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
    wishes = {"app": app, "factory": options["factory"], "drain": options["drain"], "grace": options["grace"]}
    os.environ[VARIABLE] = json.dumps(wishes)
    listener = bind(host, port)
    url = url_of(listener, host, tls=options["ssl_certfile"] is not None)
    click.secho(f"newswire {__version__} ", bold=True, nl=False, err=True)
    click.echo(f"runs {app} on {click.style(url, fg='cyan')}; Ctrl-C stops it", err=True)
    passed = ("ssl_certfile", "ssl_keyfile", "root_path", "forwarded_allow_ips")
    what = Launch(
        app="newswire.cli.target:load",
        workers=options["workers"],
        reload=options["reload"],
        reload_dirs=options["reload_dir"],
        grace=options["grace"],
        log_level=options["log_level"],
        access_log=options["access_log"],
        more={name: options[name] for name in passed},
    )
    launch(what, listener)
