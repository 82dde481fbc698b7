"""The decoder against npm's `eventsource-parser`, which passes all of our vectors: any random stream, the same events.

Where the two differ, the standard is on the decoder's side:

* a stream that begins with the characters `ï»¿` (the oracle takes them for a BOM decoded as Latin-1) is not made here;
* a reconnection time above 2**53 is rounded by JavaScript, so they are compared as it has them, in floating point;
* one above 2**63 is bounded by the decoder, and not made here.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
from pathlib import Path

import pytest
from tests.fixtures.node import node

from newswire.wire import Decoder

STREAMS = 6000
BOM = b"\xef\xbb\xbf"
ENDS = [b"\n", b"\r\n", b"\r"]
NAMES = [
    b"data",
    b"event",
    b"id",
    b"retry",
    b"",
    b"Data",
    b"dat",
    b"datax",
    b"ids",
    b" id",
    b"retry ",
    BOM + b"data",
    b"x",
]
COLONS = [b":", b": ", b":  ", b"", b" :", b"::"]
VALUES = [
    b"", b"a", b" ", b"hello world", b"x: y", b":", b"1", b"0", b"007", b"+5", b"-3", b"1_000", b"2.5", b"12 ", b" 12",
    b"86400000", "\u0661\u0662".encode(), b"1e3", b"0x10", b"a\0b", b"\0", "é€𝄞".encode(), "é€𝄞".encode()[:-1],
    b"\xff\xfe", b"\xc3", b"\xe2\x82", b"\xf0\x9d\x84", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", BOM, b"\x85",
    "\u2028\u2029\u0085".encode(), b"\x0b\x0c\x1c\x1d\x1e", b"\t", b"y" * 300,
]  # fmt: skip


def make_stream(dice: random.Random) -> bytes:
    """Lines that are nearly right, in all ways of being wrong."""
    stream = dice.choice([b"", b"", b"", BOM, BOM + BOM, BOM[:2], BOM[1:]])
    ends = dice.choice([ENDS, [b"\n"], [b"\r\n"], [b"\r"]])
    for _ in range(dice.randint(1, 25)):
        kind = dice.random()
        if kind < 0.3:
            line = b""
        elif kind < 0.9:
            value = b"".join(dice.choices(VALUES, k=dice.choice([1, 1, 1, 2, 3])))
            line = dice.choices(NAMES, [9, 3, 4, 3, *[1] * 9])[0] + dice.choices(COLONS, [5, 9, 1, 1, 1, 1])[0] + value
        else:
            line = dice.randbytes(dice.randint(1, 12))
        stream += line + dice.choice(ends)
    if dice.random() < 0.3:
        stream = stream[: -dice.randint(1, 6)]
    return b"" if "ï»¿".encode() == stream[:6] else stream


def cut(dice: random.Random, stream: bytes) -> list[bytes]:
    """Cut a stream in pieces, empty ones and cut line ends among them."""
    most = dice.choice([1, 2, 5, 40, 1000])
    chunks = []
    while stream:
        size = dice.randint(0, most)
        chunks.append(stream[:size])
        stream = stream[size:]
    return chunks


def ours(chunks: list[bytes]) -> dict[str, object]:
    """What the decoder makes of it."""
    decoder = Decoder()
    events = [[event.event, event.data, event.id or ""] for chunk in chunks for event in decoder.feed(chunk)]
    return {"events": events, "retry": rounded(decoder.retry), "id": decoder.last_event_id}


def rounded(retry: int | None) -> float | None:
    return None if retry is None else float(retry)


@pytest.mark.slow
def test_the_same_events_as_the_oracle() -> None:
    """Whatever the bytes and however they are cut."""
    dice = random.Random(20)
    streams = [cut(dice, make_stream(dice)) for _ in range(STREAMS)]
    lines = [json.dumps([base64.b64encode(chunk).decode() for chunk in chunks]) for chunks in streams]
    done = subprocess.run(
        [node(), str(Path(__file__).with_name("oracle.mjs"))],
        input="\n".join(lines).encode(),
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr.decode()
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for answer in answers:
        answer["retry"] = rounded(answer["retry"])
    assert len(answers) == STREAMS
    for chunks, answer in zip(streams, answers, strict=True):
        assert ours(chunks) == answer, chunks
    assert sum(len(answer["events"]) for answer in answers) > STREAMS
