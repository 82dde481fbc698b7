"""`newswire publish`: an argument, lines of standard input, or NDJSON."""

from __future__ import annotations

import json
import sys

import click
import httpx2
from rich.console import Console
from rich.progress import Progress, TextColumn

_AT_ONCE = 500  # lines in a request


@click.command()
@click.argument("channel")
@click.argument("data", required=False)
@click.option("--event", default="message", help="The event's type.")
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, envvar="NEWSWIRE_URL")
@click.option("--ndjson", is_flag=True, help='Lines are objects: {"data": …, "event": …}')
def publish(channel: str, data: str | None, event: str, url: str, ndjson: bool) -> None:
    """Publish DATA, or each line of standard input, to CHANNEL."""
    with httpx2.Client(base_url=url, timeout=30) as client:
        if data is not None:
            click.echo(_post(client, channel, json.dumps({"data": data, "event": event})).pop())
            return
        progress = Progress(TextColumn("{task.completed} events stored"), console=Console(stderr=True))
        with progress:
            task = progress.add_task("", total=None)
            lines: list[str] = []
            for line in sys.stdin:
                text = line.rstrip("\r\n")
                lines.append(text if ndjson else json.dumps({"data": text, "event": event}))
                if len(lines) >= _AT_ONCE or sys.stdin.isatty():
                    progress.advance(task, _send(client, channel, lines, int(progress.tasks[0].completed)))
                    lines = []
            if lines:
                progress.advance(task, _send(client, channel, lines, int(progress.tasks[0].completed)))


def _send(client: httpx2.Client, channel: str, lines: list[str], stored: int) -> int:
    try:
        return len(_post(client, channel, "\n".join(lines)))
    except click.ClickException as error:
        raise click.ClickException(f"{error.message} ({stored} events were stored before)") from None


def _post(client: httpx2.Client, channel: str, body: str) -> list[str]:
    try:
        headers = {"content-type": "application/x-ndjson"}
        answer = client.post(f"/channels/{channel}", content=body.encode("utf-8", "strict"), headers=headers)
    except httpx2.HTTPError as error:
        raise click.ClickException(
            f"{client.base_url} can't be reached: {error}. Is `newswire serve` running?"
        ) from None
    if answer.status_code != 200:
        raise click.ClickException(str(answer.json().get("detail", answer.text)))
    ids: list[str] = answer.json()["ids"]
    return ids
