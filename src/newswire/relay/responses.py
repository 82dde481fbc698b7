"""The head of an upstream's response, stored as the first event of a run, for all requests with the same key.

It is either that there is a stream (`answered`), or the answer that there is instead (`refused`).

An upstream's own answer goes to the client as it is: that is what clients' retries look at. What the relay has to say
itself is `application/problem+json` (RFC 9457), with a member `error` as the clients of OpenAI and Anthropic read it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from newswire.delivery.asgi import Send, send_answer
from newswire.delivery.problem import Problem
from newswire.errors import RelayRefused
from newswire.wire.event import Event

ANSWERED: Final = "upstream.answered"
REFUSED: Final = "upstream.refused"


def refusal(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    again: bool | None = None,
    **more: object,
) -> RelayRefused:
    """The relay's own answer.

    Args:
        status: of the answer.
        code: for programs.
        detail: for people: what is wrong, and what to do.
        headers: more headers.
        again: whether clients should try again (`x-should-retry`); None: the status says it.
        more: further members of the object.
    """
    problem = Problem(status, code, detail, headers=dict(headers), **more)
    if again is not None:
        problem.headers["x-should-retry"] = str(again).lower()
    return refusal_of(problem)


def refusal_of(problem: Problem) -> RelayRefused:
    """A problem as the relay's own answer: with the member `error` that clients of AI services read."""
    problem.more["error"] = {"type": problem.code, "code": problem.code, "message": problem.detail}
    return RelayRefused(problem.status, [*problem.headers.items()], problem.body(), problem.detail)


def head_event(headers: Mapping[str, str], redact: Callable[[str], str]) -> Event:
    """The event that says that there is a stream, and what the head said beside it, without secrets."""
    shown = {name: redact(value) for name, value in headers.items()}
    return Event(json.dumps({"headers": shown}), ANSWERED)


def read_head_event(data: str) -> Mapping[str, str]:
    """What `answered` says."""
    headers: Mapping[str, str] = json.loads(data)["headers"]
    return headers


def refusal_event(refused: RelayRefused, redact: Callable[[str], str]) -> Event:
    """The event that says what there is instead, without secrets."""
    headers = [[name, redact(value)] for name, value in refused.headers]
    body = redact(refused.body.decode("utf-8", "surrogateescape"))
    return Event(json.dumps({"status": refused.status, "headers": headers, "body": body}), REFUSED)


def read_refusal_event(data: str) -> RelayRefused:
    """What `refusal_event` says."""
    found = json.loads(data)
    headers = [(name, value) for name, value in found["headers"]]
    body = found["body"].encode("utf-8", "surrogateescape")
    return RelayRefused(found["status"], headers, body, f"the upstream answered {found['status']}")


async def send_refusal(send: Send, refused: RelayRefused, *, head_only: bool = False) -> None:
    """Give it to a client."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in refused.headers]
    await send_answer(send, refused.status, headers, refused.body, head_only=head_only)
