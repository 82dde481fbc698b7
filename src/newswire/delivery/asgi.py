"""The types of ASGI, and how a stream learns that its client has left: on every server, only `receive()` tells.

A stream keeps one `receive()` waiting for as long as it lasts.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping
from contextvars import Context
from typing import Any, Final, TypeAlias

from newswire.validate import shown

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
# What follows the date in an answer of 200: the head's other lines, an empty one, the body. Or what answers instead.
Answer: TypeAlias = bytes | Callable[[Scope, Receive, Send], Awaitable[None]]

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # RFC 9110, section 5.6.2, in lower case
_BREAK: Final = re.compile(rb"[\x00\r\n]")


class AnswersWhole(ABC):
    """An application that can answer a request whose body is there; see `newswire.delivery.fast.limits`."""

    @abstractmethod
    def whole(self, scope: Scope, body: bytes) -> Coroutine[Any, Any, Answer] | None:
        """Answer a POST request; None: it has to come the ordinary way, and nothing was done."""


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that a stream runs in.

    Raises:
        RuntimeError: none does, as under trio; it says what to do.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "newswire's streams need asyncio's event loop, and none runs here: serve the application with asyncio, not "
            "with trio (hypercorn --worker-class asyncio)"
        ) from None


async def send_answer(
    send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"", *, head_only: bool = False
) -> None:
    """Send an answer that is whole.

    Args:
        send: the request's.
        status: of the answer.
        headers: without `content-length`, which comes last.
        body: of the answer; none for a 204 or 304.
        head_only: the request is a HEAD, whose answer has no content (RFC 9110, section 9.3.2).
    """
    fields = [*headers]
    if status not in (204, 304):
        fields.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": b"" if head_only else body, "more_body": False})


def raw_headers(headers: Mapping[str, str] | None) -> list[tuple[bytes, bytes]]:
    """The headers that an application adds to a response, as ASGI has them.

    Raises:
        TypeError: they are no mapping of texts to texts.
        ValueError: HTTP can't carry one: a line break in it would begin another header, or another response.
    """
    if headers is None:
        return []
    found = []
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers is a mapping of texts to texts, not {shown(headers)}")
    given: Mapping[Any, Any] = headers
    for name, value in given.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"headers is a mapping of texts to texts, and has {shown(name)}: {shown(value)}")
        try:
            pair = name.lower().encode("ascii"), value.encode("latin-1")
        except UnicodeEncodeError:
            pair = b"", b""
        if not _NAME.fullmatch(pair[0]) or _BREAK.search(pair[1]):
            raise ValueError(f"HTTP can't carry the header {name[:60]!r} with that value")
        found.append(pair)
    return found


def watch(receive: Receive, gone: Callable[[], object], context: Context | None = None) -> Callable[[], object]:
    """Call `gone` once the client has left.

    Args:
        receive: the request's.
        gone: must not raise.
        context: the context variables of what is called; by default a copy of the caller's.

    Returns:
        what ends the watch; to be called when the stream has ended, also after `gone`.
    """
    task = asyncio.get_running_loop().create_task(_watch(receive, gone), name="newswire watcher", context=context)
    return task.cancel


async def _watch(receive: Receive, gone: Callable[[], object]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # the rest of the request's body
    gone()
