"""What both sources share around the protocol: buffered events, hooks, counts, and the ID to save.

`EventSource` and `AsyncEventSource` do the I/O, and call a `Session` before and after it. Nothing here waits or reads,
so the two can differ in nothing but `await`.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from newswire import posix
from newswire.client.cursor import Cursor, CursorStore, cursor_store, kept
from newswire.client.options import Opened, Options
from newswire.client.protocol import Connect, Protocol, Read, ReadyState, Step, Stop, Wait
from newswire.client.request import make_request
from newswire.errors import ConnectionLost, EventsLost, NewswireError, SourceError
from newswire.validate import check_kind, check_plain
from newswire.wire.event import Event
from newswire.wire.reserved import GAP, GOODBYE

logger: logging.Logger = logging.getLogger("newswire.client")

_pid = os.getpid()  # of this process, also after a fork: to ask the system each time would cost more


def _forked() -> None:
    global _pid
    _pid = os.getpid()


posix.at_fork(after_in_child=_forked)


def not_copied(source: object) -> TypeError:
    """The error of what would copy a source, or send it to another process."""
    return TypeError(
        f"an {type(source).__name__} can't be copied, pickled or sent to another process: make one there, from its URL "
        "and its last_event_id"
    )


Url = str | Callable[[], str]
Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]


@dataclass
class Stats:
    """Counts since the source was made.

    Attributes:
        attempts: requests sent, redirects included.
        opened: streams opened; all but the first are reconnects.
        failures: attempts and connections that failed.
        events: events that the loop got.
        bytes: bytes of event streams, decompressed.
        gaps: `newswire.gap` events.
        goodbyes: `newswire.goodbye` events.
    """

    attempts: int = 0
    opened: int = 0
    failures: int = 0
    events: int = 0
    bytes: int = 0
    gaps: int = 0
    goodbyes: int = 0


class Session:
    """The state of one source, sync or async.

    Args:
        url, method, headers, body: see `make_request`. `url` and `headers` may be functions, which are called at each
            attempt.
        last_event_id: where to go on from. If it is empty, the cursor store says.
        cursor: where the ID is kept over restarts.
        options: what the user set.

    Attributes:
        last_event_id: the ID in force at the event that the loop got last.

    Raises:
        ValueError: HTTP can't carry the address, the method or a header field.
    """

    def __init__(
        self,
        url: Url,
        *,
        method: str | None,
        headers: Headers | None,
        body: Any,
        last_event_id: str,
        cursor: Cursor | None,
        options: Options,
    ) -> None:
        if last_event_id is not None:  # as `stored.get("id")` gives it
            check_kind("last_event_id", last_event_id, str)
        self.options = options
        self.store: CursorStore | None = cursor_store(cursor)
        self.stats: Stats = Stats()
        self._clock = options.clock
        start = last_event_id or kept(self.store)
        self._asked = url, method, headers, body
        check_plain("url", url)
        check_plain("headers", headers)
        self._varies = callable(url) or callable(headers)
        # Functions are called at each attempt; until then these stand in for their results.
        request = make_request(
            method, "http://unknown" if callable(url) else url, None if callable(headers) else headers, body
        )
        self.protocol: Protocol = Protocol(
            request, options, last_event_id=start, renewable=self._varies, now=self._clock.now()
        )
        self._events: deque[Event] = deque()
        self._warned = bool(start)  # that events have no ids; a source that starts with one needs no warning
        self._saved = start
        self.last_event_id: str = start
        self._pid: int | None = None  # the process that has connected
        self._unfinished = False  # the last step was begun, and is not done

    # -- the process

    @property
    def is_foreign(self) -> bool:
        """Whether this process is a fork of the one that has connected, so that all of it is the parent's."""
        return self._pid is not None and self._pid != _pid

    def check_process(self) -> None:
        """See that the source was not carried over a fork.

        Raises:
            RuntimeError: it was opened before: what one process reads, the other would miss.
        """
        if self.is_foreign:
            raise RuntimeError(
                f"this event source was opened in process {self._pid}, of which {_pid} is a fork: open sources "
                "after the fork, one in each process"
            )

    # -- events

    def next_buffered(self) -> Event | None:
        """Returns the next decoded event; None if `next_step` has to be done first.

        Raises:
            EventsLost: the event is a gap, and `Options.on_gap` is `raise`.
            RuntimeError: the source was opened in another process.
        """
        if not self._events:
            return None
        if self._pid != _pid:  # here, since a call for each event is a third of what it costs
            self.check_process()
        event = self._events.popleft()
        self.stats.events += 1
        self.last_event_id = event.id or ""
        if event.event == GAP:
            self._gap(event)
        return event

    def _gap(self, event: Event) -> None:
        self.stats.gaps += 1
        if self.options.hooks.gap is not None:
            self.options.hooks.gap(event)
        if self.options.on_gap == "raise":
            raise EventsLost(event)

    def acknowledge(self) -> str | None:
        """Counts the last event as handled. Returns the ID to save, if it is a new one; then call `saved`.

        Without a store this needs to be called only when no event is buffered.
        """
        if self.is_foreign:
            return None  # the parent counts
        if not self._events:
            self.last_event_id = self.protocol.last_event_id  # blocks of an `id:` alone move it too
        if self.store is None or self.last_event_id == self._saved:
            return None
        return self.last_event_id

    def saved(self, id: str) -> None:
        """The store has this ID. One that could not be saved, or whose saving was cancelled, is saved again."""
        self._saved = id

    # -- I/O, before and after

    def next_step(self) -> Step:
        """Returns what the source has to do next. An error that is to be raised is returned once.

        Raises:
            RuntimeError: the source was opened in another process.
        """
        self.check_process()
        protocol = self.protocol
        if self._unfinished and isinstance(protocol.step, (Connect, Read)):
            # Whatever was raised in there, by a signal's handler or a hook, has left a library in the middle of its
            # work: what it reads next would look as if the stream had ended in order.
            self.failure(ConnectionLost(f"{protocol.url}: what was being read was interrupted"))
        if self._varies and protocol.fresh:
            self._renew()
        step = protocol.step
        if isinstance(step, Connect):
            self.stats.attempts += 1
            self._pid = _pid
            if protocol.unsendable:
                logger.warning("the last event ID %.60r can't be sent in a header: left out", protocol.last_event_id)
        elif isinstance(step, Stop) and step.error is not None:
            protocol.step = Stop()
        self._unfinished = True
        return step

    def finish_step(self) -> None:
        """The source has done the step; nothing was raised that the session does not know of."""
        self._unfinished = False

    def _renew(self) -> None:
        url, method, headers, body = self._asked
        url = url() if callable(url) else url
        headers = headers() if callable(headers) else headers
        self.protocol.renew(make_request(method, url, headers, body))
        self._report()

    def remaining(self, until: float) -> float:
        """Seconds from now."""
        return max(0.0, until - self._clock.now())

    def head(self, head: Opened) -> None:
        """Takes the head of an answer."""
        self.protocol.receive_head(head, self._clock.now())
        if self.protocol.state is ReadyState.OPEN:
            self.stats.opened += 1
            if self.options.hooks.open is not None:
                self.options.hooks.open(head)
        self._report()

    def data(self, data: bytes) -> None:
        """Takes bytes of the stream; no bytes mean its end."""
        protocol, hooks = self.protocol, self.options.hooks
        if not data:
            protocol.receive_end(self._clock.now(), self._clock.chance())
            self._disconnected()
        else:
            self.stats.bytes += len(data)
            if hooks.raw is not None:
                hooks.raw(data)
            events = protocol.receive_data(data, self._clock.now())
            if events and not self._warned:
                self._look_for_ids(events[0])
            self._events.extend(events)
            if hooks.comment is not None:
                comments = protocol.comments[:]
                protocol.comments.clear()
                for comment in comments:
                    hooks.comment(comment)
            control = protocol.control
            if control is not None and control.event == GOODBYE:
                self.stats.goodbyes += 1
                if hooks.goodbye is not None:
                    hooks.goodbye(control)
            if protocol.state is not ReadyState.OPEN:
                self._disconnected()
        self._report()

    def _look_for_ids(self, event: Event) -> None:
        self._warned = True
        if self.store is not None and not event.id:
            logger.warning(
                "%s sends events without ids: there is nothing that `cursor` could keep, until one has an id",
                self.protocol.url,
            )

    def refusal(self, body: bytes) -> None:
        """Takes the start of an error's body."""
        self.protocol.receive_refusal(body, self._clock.now(), self._clock.chance())
        self._report()

    def failure(self, error: SourceError) -> None:
        """Takes the error that ended an attempt or a connection."""
        was_open = self.protocol.state is ReadyState.OPEN
        self.protocol.receive_failure(error, self._clock.now(), self._clock.chance())
        if was_open:
            self._disconnected(error)
        self._report()

    def _disconnected(self, error: NewswireError | None = None) -> None:
        """Reports that the open stream is over."""
        step, hook = self.protocol.step, self.options.hooks.disconnect
        if hook is not None:
            error = error or (step.error if isinstance(step, (Wait, Stop)) else None)
            hook(error, self.remaining(step.until) if isinstance(step, Wait) else None)

    def _report(self) -> None:
        step, hooks = self.protocol.step, self.options.hooks
        if not isinstance(step, (Wait, Stop)) or step.error is None:
            return
        self.stats.failures += 1
        wait = self.remaining(step.until) if isinstance(step, Wait) else None
        if wait is not None:
            # Failures are never silent. With a hook set, they go to the hook.
            level = logging.WARNING if hooks.error is None else logging.DEBUG
            logger.log(level, "%s; next attempt in %.1f s", step.error, wait)
        if hooks.error is not None:
            hooks.error(step.error, wait)
