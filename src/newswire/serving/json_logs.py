"""Logs as JSON, one object a line, for whatever collects logs: `--log-format json`.

Each line has `time`, `level`, `logger` and `message`; within a request `request_id`; for a request's own line `client`,
`method`, `path` and `status`; for an error its traceback as `exception`. Credentials and cursors are hidden, wherever
in the line they are.

A request's id is the name of its task. So a line of another task, or of the hub's rounds, which serve all requests,
never has the id of a request that it is not about.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newswire.redact import printable, without_secrets

_ACCESS: Final = "uvicorn.access"
_TASK: Final = "request "
# What proxies make, and nothing that could be more than a name.
_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestIds:
    """Gives each request an id: that of `X-Request-ID` from a trusted proxy, or a new one. The answer has it, too.

    An answer that has one keeps it alone: a relay's upstream gave it, and clients would read two as one.

    It is the outermost application.

    Args:
        app: the application.
        trusted: addresses and networks of proxies; `*` for all.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str] = ()) -> None:
        self._app = app
        self._all = "*" in trusted
        self._trusted = [ipaddress.ip_network(each) for each in trusted if each != "*"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the request's task."""
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self._app(scope, receive, send)
            return
        id_ = self._given(scope) or secrets.token_hex(8)
        task.set_name(_TASK + id_)
        await self._app(scope, receive, self._naming(id_, send))

    def _naming(self, id_: str, send: Send) -> Send:
        header = (b"x-request-id", id_.encode("ascii"))

        async def naming(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                if all(name != b"x-request-id" for name, _ in headers):
                    message = {**message, "headers": [*headers, header]}
            await send(message)

        return naming

    def _given(self, scope: Scope) -> str | None:
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                return value.decode("ascii") if _ID.fullmatch(value) and self._trusts(scope.get("client")) else None
        return None

    def _trusts(self, client: tuple[str, int] | None) -> bool:
        if self._all:
            return True
        try:
            address = None if client is None else ipaddress.ip_address(client[0].partition("%")[0])
        except ValueError:
            return False
        return address is not None and any(address in network for network in self._trusted)


def request_id() -> str | None:
    """The id of the request whose task runs now; None: there is none."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None
    name = "" if task is None else task.get_name()
    return name.removeprefix(_TASK) if name.startswith(_TASK) else None


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _safe(record.getMessage()),
        }
        found["time"] = found["time"].replace("+00:00", "Z")
        if (id_ := request_id()) is not None:
            found["request_id"] = id_
        if record.name == _ACCESS and isinstance(record.args, tuple) and len(record.args) == 5:
            client, method, path, _, status = record.args
            found |= {"client": _safe(str(client)), "method": method, "path": _safe(str(path)), "status": status}
        if record.exc_info:
            found["exception"] = _safe(self.formatException(record.exc_info))
        return json.dumps(found, ensure_ascii=False, default=str)


def _safe(text: str) -> str:
    return printable(without_secrets(text))
