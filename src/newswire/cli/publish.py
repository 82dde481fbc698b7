"""`newswire publish`: an argument, lines of standard input, or NDJSON.

When something fails it says what is stored and where to go on, and its exit status says whether trying again can help:
1 the server refuses the events, 3 it can't be reached or can't answer now.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click
import httpx2
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from newswire import __version__
from newswire.cli.options import SERVER_URL, TOKEN, Duration, bearer
from newswire.cli.terminal import say
from newswire.cli.upload import Failed, Upload, batches
from newswire.redact import printable

_LINES, _BYTES = 500, 256 * 2**10  # in one request: far below the server's usual limits
_EMPTY = """An event without data can be published as a line of --ndjson: {"data": ""}."""
_REFUSED, _UNREACHABLE, _INTERRUPTED = 1, 3, 130


@click.command(short_help="Publish an argument, or lines of standard input.")
@click.argument("channel")
@click.argument("data", required=False)
@click.option("--event", metavar="NAME", help="The event's type [message].")
@SERVER_URL
@TOKEN
@click.option("--ndjson", is_flag=True, help='Lines are JSON objects: {"data": …, "event": …}, `event` if you like.')
@click.option(
    "--wait",
    type=Duration(zero=True),
    default=0.0,
    metavar="TIME",
    help="Go on trying so long while the server can't be reached or can't store. Nothing is sent twice.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing unless something fails.")
def publish(channel: str, data: str | None, quiet: bool, ndjson: bool, token: str | None, **options: object) -> None:
    """Publish DATA to CHANNEL, or each line of standard input. What is empty is no event.

    With DATA the event's id is printed. Lines are published as they come, so `tail -f file | newswire publish news`
    is live; a large file goes in batches, each of which is stored whole or not at all.
    """
    if data is not None and not data.strip():
        raise click.UsageError("DATA is empty. " + _EMPTY)
    url = str(options["url"])
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--url is the server's address, such as http://127.0.0.1:8000, not {url!r}")
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    limits = httpx2.Limits(
        keepalive_expiry=2.0
    )  # below the server's own, so that no request meets a closing connection
    headers = {"user-agent": f"newswire/{__version__}", **bearer(token)}
    with httpx2.Client(base_url=url, timeout=30.0, limits=limits, headers=headers) as client:
        upload = Upload(
            client,
            channel,
            event=None if options["event"] is None else str(options["event"]),
            wait=float(str(options["wait"])),
            waiting=lambda why, left: say(
                f"{why} Trying again for {left:.0f} s." if why else f"still trying, for {left:.0f} s more"
            ),
        )
        if data is not None:
            _publish_one(upload, data, quiet=quiet)
        else:
            _publish_lines(upload, errors, ndjson=ndjson, quiet=quiet)


def _publish_one(upload: Upload, data: str, *, quiet: bool) -> None:
    try:
        id = upload.one(data.encode("utf-8", "surrogateescape"))
    except Failed as error:
        unknown = " The event may be stored all the same." if error.unknown else ""
        _fail(f"{error}{unknown}", refused=error.refused)
    if not quiet:
        click.echo(id)


def _publish_lines(upload: Upload, errors: Console, *, ndjson: bool, quiet: bool) -> None:
    if sys.stdin.isatty() and not quiet:
        errors.print("Type events, one a line; Ctrl-D ends.", style="dim")
    live = not quiet and errors.is_terminal and not sys.stdin.isatty()
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.completed:,.0f} events stored"),
        TextColumn("{task.fields[rate]}", style="cyan"),
        TimeElapsedColumn(),
        console=errors,
        disable=not live,
        transient=True,
    )
    task = progress.add_task("", total=None, rate="")
    try:
        with progress:
            for batch in batches(0, lines=_LINES, size=_BYTES):
                upload.lines(batch, ndjson=ndjson)
                speed = progress.tasks[0].speed
                progress.update(task, completed=upload.stored, rate=f"{speed:,.0f}/s" if speed else "")
    except Failed as error:
        _fail(_what_now(upload, error), refused=error.refused)
    except KeyboardInterrupt:
        say(f"interrupted. {_so_far(upload)} A batch on its way may be stored too.")
        raise SystemExit(_INTERRUPTED) from None
    if not quiet:
        last = f", the last as {upload.last_id}" if upload.last_id else ""
        errors.print(f"{upload.stored:,} event{'' if upload.stored == 1 else 's'} stored{last}")


def _so_far(upload: Upload) -> str:
    if not upload.stored:
        return "Nothing is stored."
    return f"{upload.stored:,} events are stored, through line {upload.last_line:,} ({upload.last_id})."


def _what_now(upload: Upload, error: Failed) -> str:
    bad = error.number
    parts = [str(error) if bad is None else f"line {bad:,} of the input {error}", _so_far(upload)]
    if error.unknown and error.batch:
        first, last = error.batch[0].number, error.batch[-1].number
        parts.append(f"Lines {first:,} to {last:,} were sent, and may be stored or not: look, then go on.")
        return "\n".join(parts)
    mend = "" if bad is None else f"Correct line {bad:,}. "
    if upload.stored:
        go_on = f"Go on with line {upload.last_line + 1:,}: tail -n +{upload.last_line + 1} FILE | newswire publish …"
    else:
        go_on = "Then publish all of it again." if mend else ""
    return "\n".join([*parts, mend + go_on] if mend or go_on else parts)


def _fail(message: str, *, refused: bool) -> NoReturn:
    click.echo(f"newswire: {printable(message)}", err=True)
    raise SystemExit(_REFUSED if refused else _UNREACHABLE)
