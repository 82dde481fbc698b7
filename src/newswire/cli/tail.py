"""`newswire tail`: watch channels of a server, or any event stream; goes on where it left off after every interruption.

The work is `AsyncEventSource`'s. Here are the options, the messages on standard error, and a stop that loses nothing:
an event that was printed counts as handled, also by the cursor file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import click

from newswire import posix
from newswire.cli.options import BODY, BY_TOKEN, HEADERS, SERVER_URL, TOKEN, bearer, headers_of
from newswire.cli.printer import PrintedForm, Printer
from newswire.cli.terminal import INTERRUPTED, discard, say, shown_url, unreachable
from newswire.client import AsyncEventSource, Hooks, Options, Stats
from newswire.client.options import Opened
from newswire.counted import counted
from newswire.errors import BadStatus, CertificateRejected, ConnectFailed, ConnectionLost, NewswireError
from newswire.reason import reason
from newswire.redact import printable, without_userinfo
from newswire.wire.event import Event

_FAILED = 1


@dataclass(frozen=True, slots=True)
class Target:
    """A stream to watch.

    Attributes:
        url: where it is.
        channel: the one channel it has, which its events don't name; None if they do, or if it is unknown.
        ours: whether it is a newswire server's, named by `--url`.
    """

    url: str
    channel: str | None = None
    ours: bool = False


@click.command(short_help="Watch channels, or any event stream.")
@click.argument("streams", nargs=-1, required=True, metavar="CHANNEL-OR-URL...")
@SERVER_URL
@TOKEN
@click.option(
    "--from", "start", type=click.Choice(["earliest", "latest"]), help="Where to begin without a cursor [latest]."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: id, channel, event, data.")
@click.option("--raw", is_flag=True, help="The data alone.")
@click.option("--event", "kinds", multiple=True, metavar="NAME", help="Only events of this type; may be repeated.")
@click.option("--count", "-n", type=click.IntRange(1), metavar="N", help="Stop after so many events.")
@click.option(
    "--cursor",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Keep the last event ID here, and go on from it next time.",
)
@click.option("--stats", is_flag=True, help="Say on standard error how much comes, each second and at the end.")
@click.option("--method", metavar="NAME", help="The request's method [GET, or POST with --data].")
@HEADERS
@BODY
def tail(streams: tuple[str, ...], **options: Any) -> None:
    """Print the events of channels (names, and patterns such as 'orders.*') or of any URL, as they come.

    A connection that breaks is opened again, and goes on after the last event that was printed. Ctrl-C stops.
    """
    if options["as_json"] and options["raw"]:
        raise click.UsageError("--json and --raw are two forms: choose one")
    targets = list(_targets(streams, options["url"], options["start"]))
    if options["cursor"] is not None and len(targets) > 1:
        raise click.UsageError("--cursor keeps the place in one stream, and these are several: watch them one by one")
    form = PrintedForm.JSON if options["as_json"] else PrintedForm.DATA if options["raw"] else PrintedForm.PEOPLE
    logging.getLogger("newswire.client").addHandler(logging.NullHandler())  # the hooks below show the same
    logging.getLogger("newswire.client").propagate = False
    watch = _Watch(Printer(form), frozenset(options["kinds"]), options["count"])
    credential = bearer(options["token"])
    request = {
        "method": options["method"],
        "headers": headers_of(options["headers"], options["body"]),
        "body": options["body"],
        "cursor": options["cursor"],
    }
    try:
        asyncio.run(watch.all(targets, request, credential, _named(streams, options["url"]), stats=options["stats"]))
    except BrokenPipeError:
        # The reader of the output has enough. Python would complain when it flushes at its exit.
        discard(sys.stdout)
    except NewswireError as error:
        say(_explain(error, ours=all(target.ours for target in targets)))
        raise SystemExit(_FAILED) from None
    except OSError as error:
        if error.filename is None:  # of the output
            raise
        raise click.ClickException(printable(f"--cursor {options['cursor']} can't be used: {reason(error)}")) from None
    except ValueError as error:
        raise click.ClickException(printable(without_userinfo(str(error)))) from None
    if watch.interrupted:
        raise SystemExit(INTERRUPTED)


class _Watch:
    """The streams being watched.

    Attributes:
        interrupted: a signal has ended it.
    """

    def __init__(self, printer: Printer, kinds: frozenset[str], count: int | None) -> None:
        self.interrupted = False
        self._printer = printer
        self._kinds = kinds
        self._left = count
        self._sources: list[AsyncEventSource] = []

    async def all(
        self, targets: list[Target], request: dict[str, Any], credential: dict[str, str], named: str, *, stats: bool
    ) -> None:
        """Watch until the streams end, enough has come, or a signal. The credential goes to our own server only."""
        loop = asyncio.get_running_loop()
        posix.on_signals(loop, (signal.SIGINT, signal.SIGTERM), self._interrupt)
        _when_nobody_reads(loop, self._close)
        if sys.stderr.isatty():  # an empty screen would look as if it hung
            say(f"waiting for {named}; Ctrl-C stops")
        began = time.monotonic()
        self._sources = [
            AsyncEventSource(
                target.url,
                options=Options(hooks=_Messages(target).hooks),
                **request | {"headers": (credential if target.ours else {}) | request["headers"]},
            )
            for target in targets
        ]
        reporting = asyncio.create_task(self._report(began)) if stats else None
        try:
            async with asyncio.TaskGroup() as tasks:
                for target, source in zip(targets, self._sources, strict=True):
                    tasks.create_task(self._one(target, source))
        except* (NewswireError, OSError) as errors:
            raise errors.exceptions[0] from None
        finally:
            if reporting is not None:
                reporting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reporting
                say(self._figures(began))

    async def _one(self, target: Target, source: AsyncEventSource) -> None:
        async with source:
            async for event in source:
                if self._kinds and event.event not in self._kinds:
                    continue
                self._printer.show(event, event.channel or target.channel)
                if self._left is not None:
                    self._left -= 1
                    if self._left == 0:
                        self._close()
                        return

    def _interrupt(self) -> None:
        self.interrupted = True
        self._close()

    def _close(self) -> None:
        for source in self._sources:
            source.close()

    async def _report(self, began: float) -> None:
        while True:
            await asyncio.sleep(1)
            say(self._figures(began))

    def _figures(self, began: float) -> str:
        total = Stats()
        for source in self._sources:
            for name, value in vars(source.stats).items():
                setattr(total, name, getattr(total, name) + value)
        seconds = max(0.001, time.monotonic() - began)
        reconnects = max(0, total.opened - len(self._sources))
        return (
            f"{counted(total.events, 'event')}, {total.bytes / 1e6:,.1f} MB in {seconds:,.1f} s "
            f"({total.events / seconds:,.0f}/s), {counted(reconnects, 'reconnect')}, {counted(total.gaps, 'gap')}"
        )


class _Messages:
    """The messages about one stream on standard error."""

    def __init__(self, target: Target) -> None:
        self.hooks = Hooks(error=self._error, gap=self._gap, open=self._open)
        self._ours = target.ours
        self._down = False

    def _error(self, error: NewswireError, wait: float | None) -> None:
        if wait is not None:
            self._down = True
            text = _explain(error, ours=self._ours)
            say(f"{text}{' T' if text.endswith('?') else '; t'}rying again in {wait:.1f} s")

    def _open(self, opened: Opened) -> None:
        if self._down:
            self._down = False
            say(f"connected again to {_server(opened.url)}")

    def _gap(self, event: Event) -> None:
        say(f"events are missing here: {event.data[:200]}")


def _when_nobody_reads(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Call when the other end of our output's pipe is closed: a quiet channel would not let us write, and notice."""
    output = sys.stdout.fileno()
    mode = os.fstat(output).st_mode
    if stat.S_ISFIFO(mode):
        posix.on_broken_pipe(loop, output, call)


def _targets(streams: tuple[str, ...], server: str, start: str | None) -> Iterator[Target]:
    """One stream for all channels together, and one for each URL."""
    channels = [stream for stream in streams if "://" not in stream]
    for channel in channels:
        if "/" in channel:
            text = f"{shown_url(channel)!r} has a slash, as no channel has: an address begins with http:// or https://"
            raise click.UsageError(text)
    query = [] if start is None else [("from", start)]
    if channels:
        one = channels[0] if len(channels) == 1 and not set(channels[0]) & set("*>") else None
        pairs = [("channel", channel) for channel in channels] + query
        yield Target(f"{server.rstrip('/')}/stream?{urlencode(pairs)}", one, ours=True)
    for url in streams:
        if "://" in url:
            begins = not query or "from" in dict(parse_qsl(urlsplit(url).query))
            yield Target(url if begins else url + ("&" if "?" in url else "?") + urlencode(query))


def _explain(error: NewswireError, *, ours: bool = False) -> str:
    """An error in a sentence; a problem of our own server's in its own words."""
    if isinstance(error, BadStatus):
        try:
            text = f"{error.status}: {json.loads(error.body)['detail']}"
            return f"{text}; {BY_TOKEN}" if ours and error.status == 401 else text
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
    url = str(error).partition(": ")[0]
    if not url.startswith(("http://", "https://")):
        return str(error)
    if isinstance(error, ConnectFailed) and not isinstance(error, CertificateRejected):
        return unreachable(url, error) + (": is `newswire serve` running there?" if ours else "")
    if isinstance(error, ConnectionLost):
        return f"the connection to {_server(url)} broke"
    return str(error)


def _server(url: str) -> str:
    parts = urlsplit(without_userinfo(url))
    return f"{parts.scheme}://{parts.netloc}"


def _named(streams: tuple[str, ...], server: str) -> str:
    """What is watched, in words."""
    channels = [stream for stream in streams if "://" not in stream]
    parts = [f"{', '.join(channels)} on {_server(server)}"] if channels else []
    return " and ".join([*parts, *(without_userinfo(stream) for stream in streams if "://" in stream)])
