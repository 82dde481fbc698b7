"""What is wrong with one watched connection. Each check is a function of what was seen, and yields findings."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import Final, TypeAlias

from newswire.counted import counted
from newswire.doctor.findings import Finding, Severity, finding
from newswire.doctor.watch import Block, Watched

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
Findings: TypeAlias = Iterator[Finding]

SILENCE: Final = 16.0  # seconds without a byte that call for a heartbeat; most servers send one each 15
LATE: Final = 3.0  # seconds that a head may take
LONG_RETRY: Final = 3_600_000  # milliseconds
LONG_ID: Final = 4000  # bytes; gunicorn, Apache and nginx refuse a header's line above 8 KB by default
_BURST: Final = 0.1  # what comes within so many seconds came together
_HELD: Final = 0.5  # seconds between two parts of one line: no server writes like that
_SPREAD: Final = 1.0  # seconds between the stamps of events that came together
_FIELDS: Final = frozenset({"data", "event", "id", "retry", "channel"})  # channel: newswire's own, ignored by others
_CONTROL: Final = frozenset({"ping", "heartbeat", "keepalive", "keep-alive", "keep_alive", "newswire.live"})
_FRAME: Final = re.compile(r"(data|event|id|retry):\s?\S|b(['\"]).*\2$", re.DOTALL)
_FIELD: Final = re.compile(r"^\ufeff?((data|event|id|retry): ?\w|:)", re.MULTILINE)
_HEADER_UNSAFE: Final = re.compile(r"^[ \t]|[ \t]$|[\x01-\x08\x0b-\x1f\x7f]")
_EPOCH: Final = re.compile(r"(?<![\d.])(1[5-9]\d{8}|2[01]\d{8})(\d{3})?(\.\d+)?(?!\d)")
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")


def head(seen: Watched) -> Findings:
    """What the status and the headers say."""
    kind = seen.headers.get("content-type", "")
    led = f", after {counted(seen.redirects, 'redirect')} to {seen.url[:200]}" if seen.redirects else ""
    if seen.status in (401, 403):
        yield finding("auth", ERROR, f"the server answers {seen.status}{led}")
    elif seen.status == 204:
        yield finding("no-content", ERROR, f"the server answers 204 No Content{led}")
    elif seen.status != 200:
        yield finding("status", ERROR, f"the server answers {seen.status}{led}")
    elif not seen.is_stream:
        what = f"the Content-Type is {kind[:80]!r}" if kind else "there is no Content-Type"
        yield finding("content-type", ERROR, what + led)
    if not seen.is_stream:
        return
    charset = re.search(r"charset=[\"']?([\w-]+)", kind, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8"):
        yield finding("charset", WARNING, f"the Content-Type says charset={charset[1]}")
    if "content-length" in seen.headers:
        yield finding("content-length", ERROR, f"the answer has Content-Length: {seen.headers['content-length'][:20]}")
    control = seen.headers.get("cache-control", "").lower()
    if not re.search(r"no-cache|no-store|max-age=0", control):
        yield finding(
            "cacheable", WARNING, f"Cache-Control is {control[:80]!r}" if control else "there is no Cache-Control"
        )
    if seen.encoding:
        what = f"Content-Encoding: {seen.encoding[:20]}, and the request said identity"
        yield finding("compression-unasked", ERROR, what)
        yield from _undecodable(seen)
    if seen.head_at is not None and seen.head_at > LATE:
        yield finding("head-late", WARNING, f"the head came after {seen.head_at:.1f} s")
    if seen.redirects:
        lead = "leads" if seen.redirects == 1 else "lead"
        yield finding("redirect", NOTE, f"{counted(seen.redirects, 'redirect')} {lead} to {seen.url[:200]}")
    if seen.version == "HTTP/1.1" and seen.url.startswith("https:"):
        yield finding("http1", NOTE, "the server speaks HTTP/1.1")
    accel = seen.headers.get("x-accel-buffering")
    hidden = accel is None and "nginx" in seen.headers.get("server", "").lower()  # nginx never passes this header on
    if not hidden and (accel is None or accel.lower() != "no"):
        what = "there is no X-Accel-Buffering" if accel is None else f"X-Accel-Buffering is {accel[:20]!r}"
        yield finding("accel-header", NOTE, what)
    if seen.headers.get("incremental") != "?1":
        yield finding("incremental", NOTE, "there is no Incremental: ?1, or a proxy removed it")


def cors(seen: Watched, origin: str | None, *, cookies: bool) -> Findings:
    """Whether pages of other origins can read the stream.

    Args:
        seen: the connection.
        origin: a page's that has to; None: none is known.
        cookies: whether that page sends its cookies.
    """
    allowed = seen.headers.get("access-control-allow-origin")
    credentials = seen.headers.get("access-control-allow-credentials", "").lower() == "true"
    what = f"Access-Control-Allow-Origin is {allowed!r:.80}"
    if allowed == "*" and credentials:
        yield finding("cors-credentials", ERROR, "Access-Control-Allow-Origin is *, with credentials allowed")
    elif allowed is not None and "," in allowed:
        yield finding("cors", ERROR, f"{what}: browsers take one origin, sent once")
    elif origin is not None and allowed not in ("*", origin):
        yield finding("cors", ERROR, f"{what}, and the page is on {origin}")
    elif origin is not None and cookies and not (credentials and allowed == origin):
        what += "" if credentials else ", without Access-Control-Allow-Credentials: true"
        yield finding("cors-credentials", ERROR, f"{what}, and the page sends cookies")


def _undecodable(seen: Watched) -> Findings:
    if seen.undecodable is not None:
        what = f"with Content-Encoding: {seen.encoding[:20]} the body can't be read: {seen.undecodable[:200]}"
        yield finding("compression-broken", ERROR, what)


def silence(seen: Watched) -> Findings:
    """Too long without a byte, an end that was none, a body that something holds back."""
    if seen.cut is not None:
        yield finding("cut", ERROR, f"the connection broke after {seen.seconds:.1f} s: {seen.cut[:200]}")
    yield from _end(seen)
    times = [at for at, _ in seen.chunks]
    if not seen.ended and seen.cut is None and seen.head_at is not None:
        longest = max(later - sooner for sooner, later in pairwise([seen.head_at, *times, seen.seconds]))
        nginx = "nginx" in seen.headers.get("server", "").lower()
        if longest >= SILENCE and not times and nginx:
            what = (
                f"nginx answered, and for {longest:.0f} s no byte of the body came: it buffers, or the server is silent"
            )
            yield finding("buffered", ERROR, what)
        elif longest >= SILENCE:
            what = f"nothing came for {longest:.0f} s, no heartbeat either"
            yield finding("no-heartbeat", WARNING, what + ("" if times else " (or something buffers all of it)"))
        elif longest > 0.6 * seen.seconds:
            what = f"nothing came for {longest:.1f} s: too short to say whether there are heartbeats"
            yield finding("watch-longer", NOTE, what)
    yield from _buffered(seen)


def _end(seen: Watched) -> Findings:
    """An answer that ended in order, and did not say so to its reader."""
    own = own_events(seen)
    last = own[-1] if own else None
    if not seen.ended or seen.method != "GET" or "content-length" in seen.headers:
        return
    if last is not None and (last.kind.startswith("newswire.") or last.data == "[DONE]"):
        return
    what = f"the answer ended after {counted(len(own), 'event')} and {seen.seconds:.1f} s"
    yield finding("ends", NOTE if len(own) > 1 else WARNING, what)


def _buffered(seen: Watched) -> Findings:
    bursts: list[tuple[float, int, bytes]] = []  # when each began, its size and its last bytes
    last = 0.0
    for at, chunk in seen.chunks:
        if bursts and at - last < _BURST:
            began, size, end = bursts[-1]
            bursts[-1] = (began, size + len(chunk), chunk[-1:] or end)
        else:
            bursts.append((at, len(chunk), chunk[-1:]))
        last = at
    stopped = [] if seen.ended or seen.cut is not None else [(seen.seconds, 0, b"")]
    for (sooner, size, end), (later, _, _) in pairwise([*bursts, *stopped]):
        if end and end not in (b"\n", b"\r") and later - sooner > _HELD:
            what = (
                f"a line stopped in the middle after {counted(size, 'byte')} and went on {later - sooner:.1f} s later"
            )
            yield finding("buffered", ERROR, what)
            return
    events = seen.events
    together = 0  # events that came at once, and the earliest and latest of their own times
    first, earliest, latest = 0.0, math.inf, -math.inf
    recent = False
    for number, event in enumerate(events):
        if not together or (event.ended or 0) - first > _BURST:
            together, first, earliest, latest = 0, event.ended or 0, math.inf, -math.inf
            recent = number > 0 or seen.head_at is None or seen.head_at > _SPREAD
        together += 1
        stamp = stamp_of(event)
        if stamp is not None:
            earliest, latest = min(earliest, stamp), max(latest, stamp)
        if latest - earliest >= _SPREAD and recent:
            what = f"{counted(together, 'event')} came at once whose own times are {latest - earliest:.1f} s apart"
            yield finding("buffered", ERROR, what)
            return


def stamp_of(event: Block) -> float | None:
    """The time that an event carries, in seconds since the Unix epoch: in its id or in its data."""
    for text in (event.last("id") or "", event.data[:2000]):
        found = _ISO.search(text)
        if found:
            try:
                return datetime.fromisoformat(found[0]).timestamp()
            except ValueError:
                pass
        number = _EPOCH.search(text)
        if number:
            return float(number[1]) + float(f"0.{number[2]}" if number[2] else number[3] or 0)
    return None


def wire(seen: Watched) -> Findings:
    """What breaks readers in the bytes."""
    body = b"".join(chunk for _, chunk in seen.chunks)
    wide = _wide_encoding(body)
    if wide is not None:  # so no line is what it seems
        yield finding("not-utf8", ERROR, f"the body is {wide}")
        return
    try:
        codecs.getincrementaldecoder("utf-8")().decode(body, final=seen.ended)
    except UnicodeDecodeError as error:
        yield finding(
            "not-utf8", ERROR, f"the bytes at {error.start:,} are no UTF-8: {body[error.start : error.start + 8]!r}"
        )
    blocks = seen.blocks
    unknown = [line for block in blocks for line in block.lines if line.partition(":")[0] not in ("", *_FIELDS)]
    if unknown:
        yield finding(
            "unknown-lines", ERROR, f"{counted(len(unknown), 'line')} without a known field came: {unknown[0][:60]!r}"
        )
    yield from _undispatched(seen)
    framed = next((event for event in seen.events if _FRAME.match(event.data)), None)
    if framed is not None:
        yield finding("double-framed", ERROR, f"an event's data is {framed.data[:60]!r}")
    used_ids = False
    for block in blocks:
        if used_ids and block.ended is not None and block.lines == block.comments:
            what = f"the comment {block.lines[0][:40]!r} has a blank line after it, and events have ids"
            yield finding("heartbeat-blank", WARNING, what)
            break
        used_ids = used_ids or bool(block.values("id"))
    kinds = {event.kind for event in seen.events}
    for kind in sorted(kinds & {"error", "open"}):
        yield finding("event-error", WARNING, f"an event has the type {kind!r}")
    yield from _retries(blocks)


def _wide_encoding(body: bytes) -> str | None:
    """UTF-16 or UTF-32, if the body's begin is events in it; None: it is not."""
    begin = body[:4096]
    if b"\0" not in begin:
        return None
    for name in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):  # UTF-32 looks like UTF-16 with NULs
        if _FIELD.search(begin.decode(name, "ignore")):
            return name.upper()
    return None


def _undispatched(seen: Watched) -> Findings:
    """Events without an end."""
    blocks = seen.blocks
    hanging = next((block for block in blocks if block.ended is None and "data" in "".join(block.lines)), None)
    merged = next((each for each in seen.events if len(each.values("id")) > 1 or len(each.values("event")) > 1), None)
    if hanging is not None and (seen.ended or seen.seconds - hanging.began > 2):
        lines = len(hanging.values("data"))
        what = f"{counted(lines, 'data line')} came, and no blank line after that"
        if not lines:
            what = f"a line {hanging.lines[-1][:60]!r} came, without an end"
        where = "before the stream's end" if seen.ended else f"for {seen.seconds - hanging.began:.1f} s"
        yield finding("never-dispatched", ERROR, f"{what} {where}")
    elif merged is not None:
        name = "id" if len(merged.values("id")) > 1 else "event"
        what = f"one event has {len(merged.values(name))} lines of {name}:, so several have become one"
        yield finding("never-dispatched", ERROR, what)


def _retries(blocks: list[Block]) -> Findings:
    retries = [value for block in blocks for value in block.values("retry")]
    numbers = [value for value in retries if value.isascii() and value.isdigit()]
    if len(numbers) < len(retries):
        bad = next(value for value in retries if value not in numbers)
        yield finding("bad-retry", WARNING, f"retry: {bad[:40]!r}")
    # int() refuses more than 4,300 digits.
    short = next((value for value in numbers if len(value.lstrip("0")) < 4 and int(value[-3:]) < 500), None)
    if short is not None:
        yield finding("retry-storm", WARNING, f"retry: {short[-40:]}")
    digits = (value.lstrip("0") for value in numbers)
    long = next((value for value in digits if len(value) > 7 or int(value or "0") > LONG_RETRY), None)
    if long is not None:
        yield finding("retry-long", WARNING, f"retry: {long[:40]}")
    if blocks and not retries:
        yield finding("retry-none", NOTE, "the stream sends no retry:")


def own_events(seen: Watched) -> list[Block]:
    """The application's events, without pings and the like."""
    return [event for event in seen.events if event.kind not in _CONTROL]


def ids(seen: Watched) -> Findings:
    """What the ids of events are good for."""
    events = seen.events
    own = own_events(seen)
    named = [event for event in own if event.last("id")]
    if own and not named:  # what was posted is answered once: no reader comes back to it with a Last-Event-ID
        severity = WARNING if seen.method == "GET" else NOTE
        yield finding("no-ids", severity, f"{counted(len(own), 'event')} came, without an id")
    null = next((event for event in events if "\0" in (event.last("id") or "")), None)
    if null is not None:
        yield finding("id-null", ERROR, f"an id has a NUL: {null.last('id')!r:.60}")
    unsafe = next((event for event in named if _HEADER_UNSAFE.search(event.last("id") or "")), None)
    if unsafe is not None:
        yield finding("id-unsafe", WARNING, f"the id {unsafe.last('id')!r:.60} does not come back as it is")
    longest = max((event.last("id") or "" for event in named), key=len, default="")
    if len(longest.encode()) > LONG_ID:
        yield finding("id-long", WARNING, f"the id {longest[:40]!r}… has {counted(len(longest.encode()), 'byte')}")
    seen_ids: dict[str, str] = {}
    for event in named:
        name = event.last("id") or ""
        if seen_ids.setdefault(name, event.data) != event.data and name:
            yield finding("duplicate-ids", WARNING, f"two events have the id {name[:60]!r}")
            break
    control = next((event for event in events if event.kind in _CONTROL and event.values("id")), None)
    if control is not None:
        yield finding(
            "control-ids", WARNING, f"the control event {control.kind!r} has the id {control.last('id')!r:.60}"
        )


def compressed(plain: Watched, packed: Watched) -> Findings:
    """Whether a reader that takes compressed answers gets events as soon as others do."""
    if not packed.encoding or plain.encoding or not plain.events:
        return
    if not packed.is_readable:
        yield from _undecodable(packed)
        return
    encoding = packed.encoding[:20]
    sooner = plain.events[0].ended or 0.0
    events = packed.events
    if not events:
        what = (
            f"with Content-Encoding: {encoding} no event came in {packed.seconds:.0f} s, without after {sooner:.1f} s"
        )
        yield finding("compression-holds-back", ERROR, what)
    elif (later := events[0].ended or 0.0) > sooner + 2 * _SPREAD:
        what = (
            f"with Content-Encoding: {encoding} the first event came after {later:.1f} s; without, after {sooner:.1f} s"
        )
        yield finding("compression-holds-back", ERROR, what)


def head_request(seen: Watched, after: Watched | None) -> Findings:
    """What HEAD gets, and another one after it on the same connection."""
    if seen.status is None and seen.error is None:
        yield finding("head-hangs", WARNING, f"HEAD got no answer in {seen.seconds:.0f} s")
    elif seen.status == 200 and not seen.ended and seen.cut is None:
        yield finding("head-hangs", WARNING, f"the answer to HEAD did not end in {seen.seconds:.0f} s")
    elif after is not None and after.status is None and after.error is None:
        # The application goes on with a body that no one gets. A proxy gives the connection to the next reader.
        what = f"after HEAD, the next request on the connection got no answer in {after.seconds:.0f} s"
        yield finding("head-hangs", WARNING, what)


ONE_CONNECTION: Final[tuple[Callable[[Watched], Findings], ...]] = (silence, wire, ids)
