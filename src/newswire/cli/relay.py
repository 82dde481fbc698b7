"""`newswire relay`: completions of an AI API that can be resumed, stopped, and watched by many."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click

from newswire import __version__
from newswire.cli.launch import Launch, bind, is_public, launch, url_of
from newswire.cli.log_url import try_log, without_password
from newswire.errors import NewswireError
from newswire.runs import RelayOptions, Upstream, WorkerOptions
from newswire.server import values
from newswire.server.relay import RelaySettings, create_relay
from newswire.server.values import Kind


class _Value(click.ParamType[Any]):
    """A value of one of the kinds that the server's settings have."""

    def __init__(self, kind: Kind) -> None:
        self.name = kind.metavar
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._kind.read(value)
        except (ValueError, TypeError, KeyError):
            self.fail(f"{value!r} is not {self._kind.allowed}", param, ctx)


_TIME = _Value(values.duration())
_TIME_OR_NONE = _Value(values.duration(optional=True))
_SIZE = _Value(values.size(1, 2**30))


@click.command(short_help="Relay an AI API: answers that can be resumed, stopped and watched.")
@click.option(
    "--upstream",
    "upstreams",
    multiple=True,
    required=True,
    metavar="[NAME=]URL",
    help="The API, without the path that clients add: https://api.openai.com. With a name it is at /NAME/. Repeatable; "
    "requests go nowhere else.",
)
@click.option("--log", default="sqlite:///newswire.db", show_default=True, metavar="URL", help="The log's URL.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 512), default=1, show_default=True, help="Processes.")
@click.option("--insecure", is_flag=True, help="Listen on a public address although nobody is asked who they are.")
@click.option(
    "--keep-for", type=_TIME, default="1d", show_default=True, help="What an answer, and its key, is kept for."
)
@click.option(
    "--timeout", type=_TIME_OR_NONE, default="none", show_default=True, help="An answer that takes longer fails."
)
@click.option("--connect-timeout", type=_TIME, default="10s", show_default=True, help="What connecting may take.")
@click.option(
    "--idle-timeout",
    type=_TIME_OR_NONE,
    default="10m",
    show_default=True,
    help="An upstream silent for so long has failed.",
)
@click.option(
    "--compact-after",
    type=_TIME_OR_NONE,
    default="none",
    show_default=True,
    help="Keep an answer in fewer rows of the log from then on.",
)
@click.option(
    "--abandon-after",
    type=_TIME_OR_NONE,
    default="none",
    show_default=True,
    help="Stop an answer nobody reads for so long.",
)
@click.option(
    "--max-body", type=_SIZE, default="32MiB", show_default=True, help="The largest request for a completion."
)
@click.option("--cookies", is_flag=True, help="Let cookies through, both ways.")
@click.option(
    "--heartbeat",
    type=_TIME_OR_NONE,
    default="15s",
    show_default=True,
    help="A stream silent for so long gets a comment.",
)
@click.option("--lease", type=_TIME, default="10s", show_default=True, help="A worker not heard for so long has died.")
@click.option("--grace", type=_TIME, default="10s", show_default=True, help="What answers are given to end at a stop.")
@click.option("--access-log", is_flag=True, help="Write a line for each request.")
def relay(upstreams: tuple[str, ...], host: str, port: int, workers: int, insecure: bool, **options: Any) -> None:
    """Relay an OpenAI- or Anthropic-compatible API.

    Point a client's base URL here. A completion with "stream": true goes on when its client is gone, and can be read
    again at the address in Content-Location; all else is passed on as it is.
    """
    settings = _settings(upstreams, options)
    if is_public(host) and not insecure:
        raise click.ClickException(
            f"{host} can be reached from other machines, which would send their keys here without encryption: "
            "listen on 127.0.0.1 behind something that speaks HTTPS, or say --insecure"
        )
    if workers > 1 and settings.log.startswith("memory:"):
        raise click.ClickException(
            f"{workers} workers can't share a log in memory: use --log sqlite:///newswire.db, or one worker"
        )
    try_log(settings.log)
    listener = bind(host, port)
    url = url_of(listener, host)
    click.secho(f"newswire {__version__} ", bold=True, nl=False, err=True)
    click.echo(f"relays on {click.style(url, fg='cyan')}", err=True)
    for upstream in settings.upstreams:
        place = f"{url}/{upstream.name}" if upstream.name else url
        click.echo(f"  {click.style(place, fg='cyan')}  →  {without_password(upstream.url)}", err=True)
    several = f", {workers} workers" if workers > 1 else ""
    click.secho(f"log {without_password(settings.log)}{several}; Ctrl-C stops it", dim=True, err=True)
    with tempfile.TemporaryDirectory(prefix="newswire-") as board:
        app = partial(create_relay, settings, board=Path(board) if workers > 1 else None)
        more = {"lifespan": "on"}
        launch(
            Launch(app=app, workers=workers, grace=settings.grace, access_log=options["access_log"], more=more),
            listener,
        )


def _settings(upstreams: tuple[str, ...], options: dict[str, Any]) -> RelaySettings:
    names = (
        "keep_for",
        "timeout",
        "connect_timeout",
        "idle_timeout",
        "compact_after",
        "abandon_after",
        "max_body",
        "cookies",
    )
    try:
        found = tuple(Upstream.parse(text) for text in upstreams)
        if len({upstream.name for upstream in found}) < len(found):
            raise ValueError("two upstreams have the same name, or none: NAME=URL gives each its own")
        how = RelayOptions(**{name: options[name] for name in names})
        return RelaySettings(
            upstreams=found,
            log=options["log"],
            relay=how,
            heartbeat=options["heartbeat"],
            worker=WorkerOptions(lease=options["lease"]),
            grace=options["grace"],
        )
    except (ValueError, NewswireError) as error:
        raise click.ClickException(str(error)) from None
