"""`newswire top`: what a server does now, in a terminal. It reads what the console and admins read, and draws it.

In a terminal the picture takes the whole screen, and goes on until `q` or Ctrl-C; then the screen is as before. In a
pipe or a file each picture follows the one before.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import click
import httpx2
from rich.console import Console
from rich.live import Live

from newswire import __version__, posix
from newswire.cli.options import SERVER_URL, TOKEN, Duration, bearer
from newswire.cli.terminal import say, unreachable, wants_colours
from newswire.cli.top_view import Snapshot, view

_STREAMS: Final = 200  # in one picture
_PIPE_WIDTH: Final = 120
_REFUSED, _UNREACHABLE = 1, 3


class _Refused(Exception):
    """The server does not show this."""


@click.command(short_help="Watch a server's channels and streams in a terminal.")
@SERVER_URL
@TOKEN
@click.option("--channel", metavar="NAME", help="Only the streams that get this channel, or something of this pattern.")
@click.option("--subject", metavar="NAME", help="Only the streams of this user.")
@click.option(
    "--interval", type=Duration(), default=1.0, show_default="1s", metavar="TIME", help="How long a picture stays."
)
@click.option("--once", is_flag=True, help="One picture, and the end.")
def top(url: str, token: str | None, channel: str | None, subject: str | None, interval: float, once: bool) -> None:
    """Watch a server: its numbers, its busiest channels, its open streams. In a terminal, q ends it.

    Where the server asks for credentials, give a token with the claim `admin`.

    Exit code: 1 the server does not show this, 3 it can't be reached.
    """
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--url is the server's address, such as http://127.0.0.1:8000, not {url!r}")
    headers = {"user-agent": f"newswire/{__version__}", **bearer(token)}
    wanted = {"channel": channel, "subject": subject}
    query = {"limit": str(_STREAMS), **{name: value for name, value in wanted.items() if value is not None}}
    with httpx2.Client(base_url=url, timeout=10.0, headers=headers) as client:
        try:
            snapshot = _ask(client, url, query, None)
            if once or not (sys.stdout.isatty() and sys.stdin.isatty()):
                _print(client, url, query, snapshot, None if once else interval)
            else:
                _watch(client, url, query, snapshot, interval)
        except _Refused as error:
            say(str(error))
            raise SystemExit(_REFUSED) from None
        except httpx2.HTTPError as error:
            say(unreachable(url, error))
            raise SystemExit(_UNREACHABLE) from None


def _ask(client: httpx2.Client, url: str, query: dict[str, str], before: Snapshot | None) -> Snapshot:
    stats = _json(client.get("console/stats"))
    answer = client.get("connections", params=query)
    page: dict[str, Any] = {"connections": None, "next": None} if answer.status_code == 404 else _json(answer)
    return Snapshot(url, stats, page["connections"], page["next"] is not None, before)


def _json(answer: httpx2.Response) -> Any:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if answer.status_code == 200 and isinstance(found, dict):
        return found
    detail = found.get("detail") if isinstance(found, dict) else None
    if answer.status_code in (401, 403):
        raise _Refused(f"{detail or 'the server asks for a credential'}; here by --token or NEWSWIRE_TOKEN")
    raise _Refused(str(detail or f"{answer.url} answers {answer.status_code}, as no newswire server does"))


def _print(client: httpx2.Client, url: str, query: dict[str, str], snapshot: Snapshot, again: float | None) -> None:
    """Print pictures one after the other; one, if `again` is None."""
    console = Console(no_color=not wants_colours(), highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    try:
        while True:
            console.print(view(snapshot))
            if again is None:
                return
            console.print()
            time.sleep(again)
            snapshot.before = None  # of two pictures only the newer is kept
            snapshot = _ask(client, url, query, snapshot)
    except (KeyboardInterrupt, BrokenPipeError):
        # What is left in the buffer goes nowhere, and says nothing of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _watch(client: httpx2.Client, url: str, query: dict[str, str], snapshot: Snapshot, interval: float) -> None:
    console = Console(no_color=not wants_colours(), highlight=False)

    def picture() -> Any:
        return view(snapshot, height=console.size.height)

    with _keys() as key, Live(picture(), console=console, screen=True, auto_refresh=False) as live:
        live.refresh()
        while key(interval) not in ("q", "Q", "\x03"):
            try:
                snapshot.before = None
                snapshot = _ask(client, url, query, snapshot)
            except httpx2.HTTPError as error:
                snapshot.trouble = unreachable(url, error)  # what was last known stays, until the server is back
            live.update(picture(), refresh=True)


@contextmanager
def _keys() -> Iterator[Callable[[float], str | None]]:
    """Reads keys as they are pressed. Gives a function that waits so long for one; None: none was pressed."""
    number = sys.stdin.fileno()
    ended: list[str] = []

    def end(signal_number: int, frame: FrameType | None) -> None:
        ended.append("q")

    signals = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}

    def key(seconds: float) -> str | None:
        until = time.monotonic() + seconds
        while not ended and (left := until - time.monotonic()) > 0:
            # A signal does not end `select`: PEP 475. So it looks four times a second whether there was one.
            if not each:
                time.sleep(min(left, 0.25))  # Ctrl-C ends it, and no key
            elif select.select([number], [], [], min(left, 0.25))[0]:
                return os.read(number, 1).decode("latin-1") or "q"  # empty: the terminal is gone
        return ended[0] if ended else None

    try:
        with posix.single_keys(number) as each:
            yield key
    finally:
        for one, handler in signals.items():
            signal.signal(one, handler)
