"""What a chat consists of, as the log has it: the questions in a channel, and the answer of each in a run.

The channel `chat.<id>` has one event for each question, which names the run of its answer. So whoever follows the
channel sees the questions of all tabs, and whoever comes later reads the whole conversation from its history.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from newswire import Event, Hub
from newswire.errors import RunNotFound
from newswire.runs import Run, Runs

PAGE: Final = 1000
# What the model gets of the past, in characters: with its answer it has to fit into the model's context.
PAST: Final = 4000


@dataclass(slots=True)
class Turn:
    """A question and its answer.

    Attributes:
        run: the answer's run.
        question: the user's.
        text: the answer; None while it goes on, for then its stream tells it.
        end: how it ended; None while it has not.
        figures: see `answer.Answerer.answer`; the tokens are those that the log has.
        takeovers: where another process went on: `at` which character of the text, which process (`pid`), and after how
            many seconds (`away`; None if it is not known).
    """

    run: str
    question: str
    text: str | None = None
    end: dict[str, Any] | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    takeovers: list[dict[str, Any]] = field(default_factory=list)
    _heard: int | None = None  # when the producer gave its last figures

    def take(self, event: Event) -> None:
        """Note one event of the run."""
        if event.event == "message":
            self.text = (self.text or "") + event.data
            self.figures["tokens"] = self.figures.get("tokens", 0) + 1
        elif event.event == "speed":
            figures = event.json()
            self._heard = figures.pop("t", None)
            self._note(figures)
        elif event.event == "takeover":
            told = event.json()
            away = None if self._heard is None or "t" not in told else round((told["t"] - self._heard) / 1000, 1)
            self.takeovers.append({"at": told["at"], "pid": told["pid"], "away": away})
        elif event.event == "newswire.end":
            self.end = event.json()
            self._note(self.end.pop("result", None) or {})
            self.text = self.text or ""

    def _note(self, figures: dict[str, Any]) -> None:
        """Whoever takes over has a first token of its own, which is not the answer's."""
        self.figures = figures | self.figures | ({"rate": figures["rate"]} if "rate" in figures else {})

    def as_json(self) -> dict[str, Any]:
        """What the page gets."""
        return {name: value for name, value in asdict(self).items() if name[0] != "_"}


def channel(chat: str) -> str:
    """The channel of a chat, which is the name of its runs too."""
    return f"chat.{chat}"


async def turns(hub: Hub, runs: Runs, chat: str) -> tuple[list[Turn], str]:
    """The conversation so far, and the position after which the channel tells what is new."""
    found: dict[str, Turn] = {}
    latest = (await hub.log.span()).latest
    page, position = await hub.history(channel(chat), limit=PAGE)
    while True:
        for entry in page.entries:
            said = json.loads(entry.data)
            found.setdefault(said["run"], Turn(said["run"], said["question"]))  # it may have been announced twice
        if position.offset >= latest:
            break
        page, position = await hub.history(channel(chat), after=position, limit=PAGE)
    for turn in found.values():
        try:
            run = await runs.get(turn.run)
            if await run.state() == "ended":
                async for event in run.subscribe():
                    turn.take(event)
        except RunNotFound:
            turn.text, turn.end = "", {"reason": "forgotten"}
    return list(found.values()), str(position)


async def announce(hub: Hub, chat: str, run: Run, known: list[Turn]) -> None:
    """Tell all who follow the chat of a question, once."""
    if all(turn.run != run.id for turn in known):
        said = {"run": run.id, "question": run.meta["question"], "key": run.meta["key"]}
        await hub.publish(channel(chat), said, event="question")


def prompt(known: list[Turn], question: str) -> list[dict[str, str]]:
    """The messages for the model: the newest turns that it has room for, and the question."""
    messages = [{"role": "user", "content": question}]
    room = PAST - len(question)
    for turn in reversed(known):
        room -= len(turn.question) + len(turn.text or "")
        if room < 0:
            break
        if turn.text:
            messages[:0] = [
                {"role": "user", "content": turn.question},
                {"role": "assistant", "content": turn.text},
            ]
    return messages
