"""`newswire tail`: watch channels, or any event stream; goes on where it left off after every interruption."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import click
import httpx2
from rich.console import Console
from rich.text import Text

from newswire.wire import Decoder, Event, is_event_stream


@click.command()
@click.argument("channels", nargs=-1, required=True)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, envvar="NEWSWIRE_URL")
@click.option("--from", "start", type=click.Choice(["earliest", "latest"]), default="latest", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--event", "kind", help="Only events of this type.")
def tail(channels: tuple[str, ...], url: str, start: str, as_json: bool, kind: str | None) -> None:
    """Print the events of CHANNELS (names, patterns such as 'orders.*') or of a URL, as they come."""
    if channels[0].startswith(("http://", "https://")):
        target = channels[0]
    else:
        target = f"{url}/stream?{urlencode([('channel', channel) for channel in channels] + [('from', start)])}"
    console = Console(highlight=False, soft_wrap=True)
    decoder = Decoder()
    wait = 1.0
    try:
        with httpx2.Client(timeout=httpx2.Timeout(10, read=60), follow_redirects=True) as client:
            while True:
                cursor = decoder.last_event_id
                decoder = Decoder(last_event_id=cursor)
                try:
                    for event in _events(client, target, decoder):
                        wait = (decoder.retry or 1000) / 1000
                        if kind is None or event.event == kind:
                            _print(console, event, as_json)
                except httpx2.HTTPError as error:
                    click.echo(f"newswire: {str(error) or type(error).__name__}; trying again", err=True)
                time.sleep(random.uniform(wait / 2, wait))
                wait = min(wait * 1.5, 15)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        sys.stderr.close()


def _events(client: httpx2.Client, target: str, decoder: Decoder) -> Iterator[Event]:
    headers = {"accept": "text/event-stream", "cache-control": "no-store", "accept-encoding": "identity"}
    if decoder.last_event_id:
        headers["last-event-id"] = decoder.last_event_id
    with client.stream("GET", target, headers=headers) as answer:
        if answer.status_code >= 500:
            raise httpx2.HTTPError(f"the server answered {answer.status_code}")
        if answer.status_code != 200 or not is_event_stream(answer.headers.get("content-type")):
            answer.read()
            raise click.ClickException(f"{target} is no event stream ({answer.status_code}): {answer.text[:300]}")
        for data in answer.iter_raw():
            yield from decoder.feed(data)


def _print(console: Console, event: Event, as_json: bool) -> None:
    if as_json:
        fields = {"id": event.id, "channel": event.channel, "event": event.event, "data": event.data}
        print(json.dumps(fields, ensure_ascii=False), flush=True)
        return
    line = Text()
    line.append(f"{event.id or ''} ", "dim")
    line.append(f"{event.channel or ''} ", "cyan")
    if event.event != "message":
        line.append(f"{event.event} ", "yellow")
    line.append(event.data)
    console.print(line)
    sys.stdout.flush()
