"""Publishing over HTTP, as the command does it: requests, what their failures mean, and what is surely stored.

After a failure the question is always the same: how much is stored, and where to go on? Each failure says whether
nothing of the request was stored, or whether that is unknown.

Standard input is read by a thread, so that a batch holds what came while the last one was on its way: one line of a
slow `tail -f`, hundreds of a large file.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx2

from newswire.cli.terminal import reason, unreachable
from newswire.redact import printable

# The request was never sent, so it can be sent again.
_NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_PAUSE: Final = 0.5  # seconds between attempts while waiting
_SHOWN_AGAIN: Final = 5.0  # seconds after which a message says that the wait goes on


class Failed(Exception):
    """A request failed.

    Attributes:
        refused: the server said no, and will again; else it can't be reached, or can't answer now.
        unknown: whether the events of the request may have been stored all the same.
        line: the line of the batch that is at fault, from 1; None if none is.
        batch: the lines that were sent.
        too_large: the request was too large as a whole; smaller ones may pass.
    """

    def __init__(
        self, message: str, *, refused: bool, unknown: bool = False, line: int | None = None, too_large: bool = False
    ) -> None:
        super().__init__(printable(message, lines=False))
        self.refused = refused
        self.unknown = unknown
        self.line = line
        self.too_large = too_large
        self.batch: Sequence[Line] = ()

    @property
    def number(self) -> int | None:
        """The number of the line at fault in the input."""
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
            ids = self._post(body, "application/x-ndjson")["ids"]
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
        deadline = time.monotonic() + self._wait
        reason_shown, show_next = "", 0.0
        while True:
            try:
                return self._attempt(body, kind)
            except Failed as error:
                left = deadline - time.monotonic()
                if error.refused or error.unknown or left <= 0:
                    raise
                if str(error) != reason_shown or left < show_next:
                    self._waiting("" if str(error) == reason_shown else str(error), left)
                    reason_shown, show_next = str(error), left - _SHOWN_AGAIN
            time.sleep(min(_PAUSE, max(left, 0.01)))

    def _attempt(self, body: bytes, kind: str) -> dict[str, Any]:
        try:
            answer = self._client.post(self._path, params=self._query, content=body, headers={"content-type": kind})
        except _NEVER_SENT as error:
            message = f"{unreachable(str(self._client.base_url), error)}: is `newswire serve` running there?"
            raise Failed(message, refused=False) from None
        except httpx2.HTTPError as error:
            message = f"the connection to {self._client.base_url} failed ({reason(error)})"
            raise Failed(message, refused=False, unknown=True) from None
        if answer.status_code == 200:
            return _json(answer) or _not_newswire(answer)
        problem = _json(answer)
        detail = str(problem.get("detail") or f"{answer.status_code} {answer.reason_phrase}: {answer.text[:200]}")
        busy = answer.status_code >= 500
        line = problem.get("line") if isinstance(problem.get("line"), int) else None
        if line is not None:  # the caller knows its number in the input, and what is stored
            detail = detail.removeprefix(f"line {line} ").removesuffix(". Nothing was stored")
        raise Failed(
            detail,
            refused=not busy,
            unknown=busy and answer.status_code != 503,
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
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _not_newswire(answer: httpx2.Response) -> dict[str, Any]:
    raise Failed(f"{answer.url} does not answer like a newswire server: check --url", refused=True, unknown=True)


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
