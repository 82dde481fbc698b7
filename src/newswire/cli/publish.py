"""`newswire publish`: an argument, lines of standard input, or NDJSON.

When something fails it says what is stored and where to go on, and its exit status says whether trying again can help:
1 the server refuses the events, 3 it can't be reached or can't answer now, 4 all is stored but its id can't be printed.
"""

from __future__ import annotations

import json
import queue
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from urllib.parse import quote

import click
import httpx2

from newswire import __version__
from newswire.cli.options import BY_TOKEN, SERVER_URL, TOKEN, Duration, bearer
from newswire.cli.terminal import INTERRUPTED, echo_done, say, shown_url, unreachable
from newswire.counted import counted
from newswire.reason import reason
from newswire.redact import printable

# The request was never sent, so it can be sent again.
_BATCH: Final = "application/x-ndjson"
_NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_PAUSE: Final = 0.5  # seconds between attempts while waiting
_KNOWN: Final = 540.0  # seconds in which a request may go out again after a lost answer: a log knows its key for 600
_SHOWN_AGAIN: Final = 5.0  # seconds after which a message says that the wait goes on


class Failed(Exception):
    """A request failed.

    Attributes:
        refused: the server said no, and will again; else it can't be reached, or can't answer now.
        unknown: whether the events of the request may have been stored all the same.
        final: trying again can't help.
        line: the line of the batch that is at fault, from 1; None if none is.
        batch: the lines that were sent.
        too_large: the request was too large as a whole; smaller ones may pass.
    """

    def __init__(
        self,
        message: str,
        *,
        refused: bool,
        unknown: bool = False,
        final: bool = False,
        line: int | None = None,
        too_large: bool = False,
    ) -> None:
        super().__init__(printable(message, lines=False))
        self.refused = refused
        self.unknown = unknown
        self.final = final
        self.line = line
        self.too_large = too_large
        self.batch: Sequence[Line] = ()

    @property
    def number(self) -> int | None:
        """The number of the line at fault in the input."""
        if self.too_large and len(self.batch) == 1:
            return self.batch[0].number
        return self.batch[self.line - 1].number if self.line is not None and self.line <= len(self.batch) else None


class Upload:
    """A channel to publish to.

    Args:
        client: an HTTP client whose base URL is the server's.
        channel: the channel.
        event: the type of events that name none; None for `message`.
        wait: seconds to go on trying while the server can't be reached or says that it can't now.
        waiting: called with a reason when a wait begins, and with "" every few seconds of it; and how many are left.

    Attributes:
        stored: events that are surely stored.
        last_id: of the newest of them; None before the first.
        last_line: its line.
    """

    def __init__(
        self,
        client: httpx2.Client,
        channel: str,
        *,
        event: str | None,
        wait: float,
        waiting: Callable[[str, float], None],
    ) -> None:
        self._client = client
        self._path = f"/channels/{quote(channel, safe='')}"
        self._query = {} if event is None else {"event": event}
        self._wait = wait
        self._waiting = waiting
        self.stored: int = 0
        self.last_id: str | None = None
        self.last_line: int = 0

    def one(self, data: bytes) -> str:
        """Publish one event. Returns its id."""
        answer = self._post(data, "text/plain; charset=utf-8")
        return printable(str(answer["id"]), lines=False)

    def lines(self, batch: Sequence[Line], *, ndjson: bool) -> None:
        """Publish a batch, a line an event. One that is too large goes in halves.

        Raises:
            Failed: nothing of what `last_line` does not cover was stored, unless it says `unknown`.
        """
        body = b"\n".join(line.content if ndjson else _as_json(line) for line in batch)
        try:
            ids = self._post(body, _BATCH)["ids"]
        except Failed as error:
            if error.too_large and len(batch) > 1:
                half = len(batch) // 2
                self.lines(batch[:half], ndjson=ndjson)
                self.lines(batch[half:], ndjson=ndjson)
                return
            error.batch = batch
            raise
        self.stored += len(ids)
        self.last_id, self.last_line = printable(str(ids[-1]), lines=False), batch[-1].number

    def _post(self, body: bytes, kind: str) -> dict[str, Any]:
        headers = {"content-type": kind}
        if self._wait:  # by its key the server stores a request once, though it goes out again after a lost answer
            headers["idempotency-key"] = secrets.token_hex(16)
        deadline = time.monotonic() + self._wait
        unknown = False
        reason_shown, show_next = "", 0.0
        while True:
            try:
                return self._attempt(body, headers)
            except Failed as error:
                if error.unknown and not unknown:
                    unknown, deadline = True, min(deadline, time.monotonic() + _KNOWN)
                error.unknown = unknown
                left = deadline - time.monotonic()
                if error.refused or error.final or left <= 0:
                    raise
                if str(error) != reason_shown or left < show_next:
                    self._waiting("" if str(error) == reason_shown else str(error), left)
                    reason_shown, show_next = str(error), left - _SHOWN_AGAIN
            time.sleep(min(_PAUSE, max(left, 0.01)))

    def _attempt(self, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        try:
            answer = self._client.post(self._path, params=self._query, content=body, headers=headers)
        except _NEVER_SENT as error:
            message = f"{unreachable(str(self._client.base_url), error)}: is `newswire serve` running there?"
            raise Failed(message, refused=False) from None
        except httpx2.HTTPError as error:
            message = f"the connection to {shown_url(str(self._client.base_url))} failed ({reason(error)})"
            raise Failed(message, refused=False, unknown=True) from None
        if answer.status_code == 200:
            found = _json(answer)
            name, wanted = ("ids", list) if headers["content-type"] == _BATCH else ("id", str)
            return found if isinstance(found.get(name), wanted) and found[name] else _not_newswire(answer)
        problem = _json(answer)
        detail = str(problem.get("detail") or _unexplained(answer))
        if answer.status_code == 401:
            detail = f"{detail}; {BY_TOKEN}"
        busy = answer.status_code >= 500
        line = problem.get("line") if isinstance(problem.get("line"), int) else None
        if line is not None:  # the caller knows its number in the input, and what is stored
            detail = detail.removeprefix(f"line {line} ").removesuffix(". Nothing was stored")
        raise Failed(
            detail,
            refused=not busy,
            unknown=busy and answer.status_code != 503,
            final=answer.status_code in (500, 501),
            line=line,
            too_large=answer.status_code == 413,
        )


def _as_json(line: Line) -> bytes:
    try:
        return json.dumps({"data": line.content.decode("utf-8")}, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        message = f"line {line.number} is not UTF-8 (byte {error.start + 1}): convert it, with iconv say"
        raise Failed(message, refused=True) from None


def _json(answer: httpx2.Response) -> dict[str, Any]:
    try:
        value = answer.json()
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _unexplained(answer: httpx2.Response) -> str:
    """An error that is no problem of newswire's: another server answers, or a proxy."""
    detail = " ".join(answer.text[:200].split())
    text = f"{shown_url(str(answer.url))} answers {answer.status_code} {answer.reason_phrase}"
    if answer.status_code < 500:
        text += ", as no newswire server does: check --url"
    return text if detail in ("", answer.reason_phrase) else f"{text}. It says: {detail}"


def _not_newswire(answer: httpx2.Response) -> dict[str, Any]:
    url = shown_url(str(answer.url))
    raise Failed(f"{url} does not answer like a newswire server: check --url", refused=True, unknown=True)


_AHEAD: Final = 5_000  # lines read ahead of the server


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the input.

    Attributes:
        number: from 1, empty lines counted.
        content: without its line end.
    """

    number: int
    content: bytes


def batches(descriptor: int, *, lines: int, size: int) -> Iterator[list[Line]]:
    """Read until the end; empty lines are left out.

    Args:
        descriptor: of the input; 0 is standard input. It is left open.
        lines: a batch has at most so many …
        size: … and at most about so many bytes, but at least one line.
    """
    ready: queue.Queue[Line | None] = queue.Queue(_AHEAD)
    threading.Thread(target=_read, args=(descriptor, ready), name="newswire input", daemon=True).start()
    line: Line | None = Line(0, b"")
    while line is not None:
        batch: list[Line] = []
        total = 0
        line = ready.get()
        while line is not None:
            batch.append(line)
            total += len(line.content)
            if len(batch) >= lines or total >= size:
                break
            try:
                line = ready.get_nowait()
            except queue.Empty:
                break
        if batch:
            yield batch


def _read(descriptor: int, ready: queue.Queue[Line | None]) -> None:
    # The file is this thread's own: closing it elsewhere would wait for the read that is going on.
    try:
        with open(descriptor, "rb", closefd=False) as source:
            for number, raw in enumerate(source, 1):
                content = raw.rstrip(b"\r\n")
                if content.strip():
                    ready.put(Line(number, content))
    finally:
        ready.put(None)


_LINES, _BYTES = 500, 256 * 2**10  # in one request: far below the server's usual limits
_EMPTY = """An event without data can be published as a line of --ndjson: {"data": ""}."""
_REFUSED, _UNREACHABLE, _NOT_SHOWN = 1, 3, 4


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
    help="Go on trying so long while the server can't be reached or can't store. Nothing is stored twice.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing unless something fails.")
def publish(channel: str, data: str | None, quiet: bool, ndjson: bool, token: str | None, **options: object) -> None:
    """Publish DATA to CHANNEL, or each line of standard input that is not empty.

    With DATA the event's id is printed. Lines are published as they come, so `tail -f file | newswire publish news`
    is live; a large file goes in batches, each of which is stored whole or not at all.
    """
    if data is not None and not data.strip():
        raise click.UsageError("DATA is empty. " + _EMPTY)
    url = str(options["url"])
    limits = httpx2.Limits(
        keepalive_expiry=2.0
    )  # below the server's own, so that no request meets a closing connection
    headers = {"user-agent": f"newswire/{__version__}", **bearer(token)}
    tls = url.startswith("https://")  # nothing else uses the certificates, which take 20 ms to load
    with httpx2.Client(base_url=url, verify=tls, timeout=30.0, limits=limits, headers=headers) as client:
        upload = Upload(
            client,
            channel,
            event=None if options["event"] is None else str(options["event"]),
            wait=float(str(options["wait"])),
            waiting=lambda why, left: say(
                f"{why}{' T' if why.endswith('?') else '; t'}rying again for {left:.0f} s."
                if why
                else f"still trying, for {left:.0f} s more"
            ),
        )
        if data is not None:
            _publish_one(upload, data, quiet=quiet)
        else:
            _publish_lines(upload, ndjson=ndjson, quiet=quiet)


def _publish_one(upload: Upload, data: str, *, quiet: bool) -> None:
    try:
        id = upload.one(data.encode("utf-8", "surrogateescape"))
    except Failed as error:
        unknown = " The event may be stored all the same." if error.unknown else ""
        _fail(f"{error}{unknown}", refused=error.refused)
    except KeyboardInterrupt:
        say("interrupted. The event may be stored.")
        raise SystemExit(INTERRUPTED) from None
    if not quiet:
        echo_done(id, f"the event is stored as {id}", _NOT_SHOWN)


def _publish_lines(upload: Upload, *, ndjson: bool, quiet: bool) -> None:
    from rich.console import Console  # late: publishing an argument needs none of it
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    if sys.stdin.isatty() and not quiet:
        errors.print("Type events, one a line; Ctrl-D ends.", style="dim")
    live = not quiet and errors.is_terminal and not sys.stdin.isatty()
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.completed:,.0f} stored"),
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
        raise SystemExit(INTERRUPTED) from None
    if not quiet:
        last = f", the last as {upload.last_id}" if upload.last_id else ""
        errors.print(f"{counted(upload.stored, 'event')} stored{last}", markup=False)


def _so_far(upload: Upload) -> str:
    if not upload.stored:
        return "Nothing is stored."
    events = "event is" if upload.stored == 1 else "events are"
    return f"{upload.stored:,} {events} stored, through line {upload.last_line:,} ({upload.last_id})."


def _what_now(upload: Upload, error: Failed) -> str:
    bad = error.number
    what = "is too large: " if error.too_large else ""
    parts = [str(error) if bad is None else f"line {bad:,} of the input {what}{error}", _so_far(upload)]
    if error.unknown and error.batch:
        first, last = error.batch[0].number, error.batch[-1].number
        sent = f"Line {first:,} was" if first == last else f"Lines {first:,} to {last:,} were"
        parts.append(f"{sent} sent, and may be stored or not: look, then go on.")
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
