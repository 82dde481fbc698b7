"""Decode and encode: events a second on one core, beside the decoders that Python has, and whether time grows linearly.

The shapes are those of LLM streams: small events in whatever reads of 64 KB hold, one event a chunk (as HTTP chunks
come when tokens trickle), and larger ones. Everybody takes turns on the same bytes, CPU time is counted, and what each
gives is compared with what was encoded. Growth is shown as the time for twice as much: 2 is linear, 4 quadratic.
"""

from __future__ import annotations

import gc
import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from typing import Final

from fastapi.sse import ServerSentEvent as FastAPIEvent
from fastapi.sse import format_sse_event
from sse_starlette import ServerSentEvent

from benchmarks.decoders import OURS, PACKAGES, PEERS, Contender
from benchmarks.processes import Failed
from benchmarks.report import Cell, Say, Size, Table, median, spread, times
from newswire.wire import Decoder, Event, encode

TITLE: Final = "Decode"
_READ: Final = 64 * 2**10
_MB: Final = 2**20


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about a minute in full."""
    gc.collect()
    gc.freeze()  # `_cpu` collects each time: not the peers' modules, which are a million objects
    return [*_decoding(size, say), _encoding(size, say), _growth(size, say)]


# -- decoding


def _token(number: int, text: str) -> str:
    """One token as chat completions stream it: some 200 bytes with a word."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {"id": f"chatcmpl-{number:024d}", "object": "chat.completion.chunk", "created": 1794000000}
    return json.dumps({**body, "model": "smollm2-135m", "choices": [choice]}, separators=(",", ":"))


def _shapes(total: int) -> dict[str, tuple[list[bytes], list[str]]]:
    """Chunks, and the data in them; some `total` bytes each."""
    tokens = [_token(number, f" word{number % 1000}") for number in range(total // 215)]
    plain = [encode(Event(text)) for text in tokens]
    named = [encode(Event(text, "delta", f"{number:x}")) for number, text in enumerate(tokens)]
    large = [_token(number, "lorem ipsum " * 660) for number in range(total // 8120)]
    return {
        "200 B": (_reads(plain), tokens),
        "200 B, named, id": (_reads(named), tokens),
        "200 B, one a chunk": (plain, tokens),
        "8 KB": (_reads([encode(Event(text)) for text in large]), large),
    }


def _reads(blocks: list[bytes]) -> list[bytes]:
    whole = b"".join(blocks)
    return [whole[at : at + _READ] for at in range(0, len(whole), _READ)]


def _decoding(size: Size, say: Say) -> list[Table]:
    rounds = size.count(7, 5, 1)
    shapes = _shapes(int(size.pick(6e6, 4e6, 1e5)))
    contenders = (OURS, *PEERS)
    rates: dict[tuple[str, str], list[float]] = {}
    wrong: dict[str, list[str]] = {}
    for shape, (chunks, expected) in shapes.items():
        say(f"decoding: {shape}")
        for contender in contenders:
            if [event.data for event in contender.decode(chunks)] != expected:
                if contender is OURS:
                    raise Failed(f"our own decoder gives other events than were encoded: {shape}")
                wrong.setdefault(contender.name, []).append(shape)
        for _ in range(rounds):
            for contender in contenders:
                took = _cpu(lambda contender=contender, chunks=chunks: deque(contender.decode(chunks), 0))
                rates.setdefault((contender.name, shape), []).append(len(expected) / took / 1e3)
    rows = [_row(contender, shapes, rates) for contender in contenders]
    rows.append(["newswire, times the fastest peer", *(_lead(shape, rates) for shape in shapes)])
    rows.append(["newswire, rounds", *(spread(rates[OURS.name, shape]) for shape in shapes)])
    notes = [f"{name} gives other data than were encoded: {', '.join(which)}." for name, which in wrong.items()]
    notes.append("Reads of 64 KB but in the third column. From bytes to event objects; nothing is done with them.")
    notes.append(", ".join(f"{package} {version(package)}" for package in PACKAGES) + ".")
    return [Table("Decoding, thousand events a second of CPU time", ("decoder", *shapes), rows, notes)]


def _row(contender: Contender, shapes: Iterable[str], rates: dict[tuple[str, str], list[float]]) -> list[Cell]:
    return [contender.name, *(median(rates[contender.name, shape]) for shape in shapes)]


def _lead(shape: str, rates: dict[tuple[str, str], list[float]]) -> str | None:
    fastest = max(median(rates[peer.name, shape]) or 0 for peer in PEERS)
    return times(median(rates[OURS.name, shape]), fastest)


def _cpu(call: Callable[[], object]) -> float:
    """CPU seconds of this thread; what was garbage before is not counted."""
    gc.collect()
    begun = time.thread_time()
    call()
    return time.thread_time() - begun


# -- encoding


def _encoding(size: Size, say: Say) -> Table:
    say("encoding")
    rounds, events = size.count(7, 5, 1), size.count(30_000, 20_000, 200)
    text = _token(1, " word")
    poem = "\n".join(["So much depends upon"] * 10)
    contenders: dict[str, Callable[[str], bytes]] = {
        "newswire": lambda data: encode(Event(data, "delta", "1f")),
        "sse-starlette": lambda data: ServerSentEvent(data, event="delta", id="1f").encode(),
        "FastAPI": _fastapi,
    }
    rates: dict[tuple[str, str], list[float]] = {}
    texts = {"200 B": text, "10 lines": poem}
    for _ in range(rounds):
        for name, call in contenders.items():
            for kind, data in texts.items():
                took = _cpu(lambda call=call, data=data: deque(map(call, [data] * events), 0))
                rates.setdefault((name, kind), []).append(events / took / 1e3)
    rows: list[list[Cell]] = [[name, *(median(rates[name, kind]) for kind in texts)] for name in contenders]
    note = "From the fields to bytes, by way of each library's event object; newswire's and FastAPI's check the fields."
    title = "Encoding an event with type and id, thousand a second of CPU time"
    return Table(title, ("encoder", *texts), rows, (note,))


def _fastapi(data: str) -> bytes:
    event = FastAPIEvent(raw_data=data, event="delta", id="1f")
    return format_sse_event(data_str=event.raw_data, event=event.event, id=event.id)


# -- growth


def _growth(size: Size, say: Say) -> Table:
    whole, bytewise = size.count(64, 64, 1) * _MB, size.count(_MB, _MB, _MB // 64)
    cases: dict[str, Callable[[int], list[bytes]]] = {
        f"one line of {whole // _MB} MB in 4 KB chunks": lambda part: _pieces(_line(whole // part), 4096),
        f"one line of {bytewise // 1024:,} KB, a byte a chunk": lambda part: _pieces(_line(bytewise // part), 1),
        f"{bytewise // 1024:,} KB of 64-byte events, a byte a chunk": lambda part: _pieces(
            encode(Event("x" * 56)) * (bytewise // part // 64), 1
        ),
        f"one event of {whole // 8 // _MB or 1} MB in 10-byte lines, 4 KB chunks": lambda part: _pieces(
            b"data: xyz\n" * (max(_MB, whole // 8) // part // 10) + b"\n", 4096
        ),
    }
    rounds = size.count(5, 3, 1)
    rows: list[list[Cell]] = []
    for name, chunks in cases.items():
        say(f"growth: {name}")
        half, full = chunks(2), chunks(1)
        halves = [_cpu(partial(_feed, half)) for _ in range(rounds)]
        fulls = [_cpu(partial(_feed, full)) for _ in range(rounds)]
        rows.append([name, min(halves) * 1e3, min(fulls) * 1e3, times(min(fulls), min(halves))])
    return Table(
        "Growth: CPU time for half as much and for all, the best of a few rounds",
        ("stream", "half, ms", "all, ms", "all / half"),
        rows,
        ("Twice as much takes twice as long: 2 is linear, 4 would be quadratic.",),
    )


def _line(length: int) -> bytes:
    return b"data: " + b"x" * length + b"\n\n"


def _pieces(data: bytes, length: int) -> list[bytes]:
    return [data[at : at + length] for at in range(0, len(data), length)]


def _feed(chunks: list[bytes]) -> None:
    feed = Decoder(max_line=1 << 40, max_event=1 << 40).feed
    events = sum(len(feed(chunk)) for chunk in chunks)
    if not events:
        raise Failed("a stream that has events gave none")
