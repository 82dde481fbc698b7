"""Runs that every dialect is proved on: what a producer would write, part by part."""

from __future__ import annotations

import random
from typing import Final

from newswire.runs.dialects import Head
from newswire.runs.parts import (
    Data,
    Finish,
    Part,
    Progress,
    Reasoning,
    Text,
    ToolCall,
    ToolInput,
    ToolOutput,
    Usage,
)

HEAD: Final = Head("run-7f3a", created=1_790_000_000.5, meta={"model": "small-1"})


def words(text: str) -> list[Part]:
    """A text in pieces as a model gives it: a word and the space after it."""
    return [Text(piece) for piece in text.replace(" ", " \0").split("\0")]


def thoughts(text: str) -> list[Part]:
    """The same, as reasoning."""
    return [Reasoning(part.text) for part in words(text) if isinstance(part, Text)]


def pieces(id: str, text: str, size: int = 5) -> list[Part]:
    """A call's input, some characters at a time."""
    return [ToolInput(id, text[i : i + size]) for i in range(0, len(text), size)]


def turns(*several: list[Part]) -> list[Part]:
    """Parts of several lists in turns, one of each."""
    rows = max(map(len, several))
    return [parts[row] for row in range(rows) for parts in several if row < len(parts)]


TEXT: Final = [*words("The quick brown fox jumps over the lazy dog and is gone."), Finish("stop"), Usage(12, 34)]

REASONING: Final = [
    *thoughts("Let me see: two and two, that is four."),
    Usage(3, 9),
    *words("It is four, of course."),
    Usage(5, 21),
]

# Two calls whose inputs come in turns and whose outputs come in the other order, then a second step with a third call
# that has no input and fails, then the answer.
TOOLS: Final = [
    *thoughts("I have to look."),
    *words("I look it up."),
    ToolCall("call-a", "weather"),
    *pieces("call-a", '{"city": "P'),
    ToolCall("call-b", "weather"),
    *turns(pieces("call-a", 'aris", "days": [1, 2]}'), pieces("call-b", '{"city": "Köln {sic}", "days": []}')),
    Finish("tool_calls"),
    Usage(20, 10),
    ToolOutput("call-b", {"sky": "grey", "degrees": 4.5}),
    ToolOutput("call-a", "sunny"),
    *words("One more thing."),
    ToolCall("call-c", "now"),
    ToolOutput("call-c", {"why": "no clock"}, error=True),
    *thoughts("No matter."),
    *words("Sun in Paris, clouds in Köln."),
    Finish("stop"),
    Usage(64, 32),
]

# A call that the client has to answer.
CALL: Final = [
    *words("Your turn:"),
    ToolCall("call-1", "confirm"),
    *pieces("call-1", '{"question": "Sure?"}'),
    Finish("tool_calls"),
    Usage(7, 8),
]

UNICODE: Final = [
    *map(
        Text,
        [
            "Žluťoučký kůň ",
            "👩‍👩‍👧‍👦",
            " \u2028\u2029\x85\x0b\x0c",
            "quotes \" and \\ and ' ",
            "lines\r\n\nand\rmore\n",
            "\n",
            "data: x\n\n",
            "\x00\x7f\ufeff",
            ":\n\nid: 5\nevent: error\n",
            "",
            "]]>&lt;</script>",
            "𝔘𝔫𝔦",
        ],
    ),
    ToolCall("c 1", "näme"),
    *pieces("c 1", '{"t": "\u2028 👍 \\" \\n \\ud83d\\udc4d {", "n": -1.5e3}', size=3),
    ToolOutput("c 1", ["\u2028", "👍", None, True, {"": 0}]),
    Text("Done ✅"),
]

JOB: Final = [
    Progress(0, 10, "Starting"),
    Text("Log: "),
    *[part for i in range(1, 8) for part in (Progress(i, 10, f"step {i}"), Text(f"{i}; "), Usage(i, 2 * i))],
    Data("chart", '{"points": [[1, 2.5], [2, null]]}'),
    Text("charted. "),
    Data("note", "not JSON: NaN"),
    Data("note", "NaN"),
    Progress(10, 10),
    Text("Over."),
]

# What a producer should not write, and might: it must break no client.
ODD: Final = [
    ToolOutput("nobody", 1),
    ToolInput("nobody", "{}"),
    ToolCall("a", "tool"),
    ToolCall("a", "tool"),
    ToolInput("a", "no "),
    ToolInput("a", "JSON"),
    Text("x"),
    ToolOutput("a", None),
    ToolOutput("a", "again"),
    ToolInput("a", "late"),
    ToolCall("b", ""),
    ToolInput("b", "[1, "),
    ToolInput("b", "2]"),
    ToolCall("c", "tool"),
    ToolInput("c", '{"n": 1}  '),
    ToolInput("c", " \n"),
    Data("usage", '{"input_tokens": "many"}'),
    Finish("because"),
    Finish("tool_calls"),
    Text(""),
    Reasoning(""),
]


def at_random(seed: int) -> list[Part]:
    """A run at random: all kinds of parts in any order, with inputs that are cut anywhere."""
    choose = random.Random(seed)
    inputs: dict[str, str] = {}  # what is still to come of the input of each call
    unanswered: list[str] = []
    run: list[Part] = []
    for number in range(choose.randint(1, 40)):
        kind = choose.choice("tttttrrciiiiioouufpd")
        text = choose.choice(["word ", "a", "\n", "🙂", "é\u2028", '"', "}", "{"])
        if kind == "t":
            run.append(Text(text))
        elif kind == "r":
            run.append(Reasoning(text))
        elif kind == "c":
            id = f"call-{number}"
            whole = choose.choice(["", "{}", '{"a": {"b": "}{"}}', '{"text": "é🙂\\n\\" {", "n": [1, 2]}', "{ }"])
            inputs[id] = whole
            unanswered.append(id)
            run.append(ToolCall(id, choose.choice(["weather", "now"])))
        elif kind == "i" and inputs:
            id = choose.choice(list(inputs))
            size = choose.randint(0, 8)
            run.append(ToolInput(id, inputs[id][:size]))
            inputs[id] = inputs[id][size:]
        elif kind == "o" and unanswered:
            id = unanswered.pop(choose.randrange(len(unanswered)))
            run += [ToolInput(id, inputs.pop(id, "")), ToolOutput(id, {"said": text}, choose.random() < 0.2)]
        elif kind == "u":
            run.append(Usage(number, 2 * number))
        elif kind == "f":
            run += [ToolInput(id, inputs.pop(id)) for id in list(inputs)]
            run.append(Finish(choose.choice(["stop", "tool_calls"])))
        elif kind == "p":
            run.append(Progress(number, 40, text))
        elif kind == "d":
            run.append(Data("note", text))
    return [*run, *(ToolInput(id, rest) for id, rest in inputs.items())]


PLAIN: Final[dict[str, list[Part]]] = {
    "text": TEXT,
    "reasoning": REASONING,
    "tools": TOOLS,
    "call": CALL,
    "unicode": UNICODE,
    "job": JOB,
    "empty": [],
}
SCRIPTS: Final[dict[str, list[Part]]] = {
    **PLAIN,
    "odd": ODD,
    **{f"random {seed}": at_random(seed) for seed in range(9)},
}
