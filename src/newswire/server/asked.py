"""What a request asks for: the parameters of its query and the channel in its path, read strictly.

Starlette and uvicorn replace bytes that are not UTF-8 by U+FFFD, which would name another channel than the one that was
meant; here such a request is refused. Only a cursor is read with forgiveness, and not here: see
`newswire.delivery.request.last_event_id`.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from newswire.server.problem import Problem

_MAX_PARAMETERS: Final = 20_000  # far above what max_channels may be set to; parsing more is work for nothing


class Query:
    """The parameters of a request's query.

    Raises:
        Problem: there are absurdly many.
    """

    def __init__(self, request: Request) -> None:
        raw: bytes = request.scope.get("query_string", b"")
        if raw.count(b"&") >= _MAX_PARAMETERS:
            raise Problem(
                400, "invalid_query", f"the query has more than {_MAX_PARAMETERS:,} parameters", field="query"
            )
        pairs = [part.partition(b"=") for part in raw.replace(b"+", b" ").split(b"&") if part]
        self._pairs = [(unquote_to_bytes(name), value) for name, _, value in pairs]

    def all(self, name: str) -> list[str]:
        """Every value of a parameter, in order.

        Raises:
            Problem: one is not UTF-8.
        """
        key = name.encode()
        return [_text(value, name) for found, value in self._pairs if found == key]

    def one(self, name: str) -> str | None:
        """The value of a parameter that may be given once; None if it is not there.

        Raises:
            Problem: it is not UTF-8, or given twice.
        """
        values = self.all(name)
        if len(values) > 1:
            raise Problem(400, "invalid_query", f"{name} is given {len(values)} times: give it once", field=name)
        return values[0] if values else None

    def choice(self, name: str, *choices: str) -> str | None:
        """The value of a parameter that is one of `choices`.

        Raises:
            Problem: it is something else.
        """
        value = self.one(name)
        if value is not None and value not in choices:
            allowed = " or ".join(repr(choice) for choice in choices)
            raise Problem(400, "invalid_query", f"{name} is {allowed}, not {value[:40]!r}", field=name)
        return value

    def only(self, *names: str) -> None:
        """Refuse parameters that would be ignored: `?evt=x` must not publish a `message`.

        Raises:
            Problem: there is one that is not in `names`.
        """
        known = {name.encode() for name in names}
        for found, _ in self._pairs:
            if found not in known:
                name = found[:40].decode("utf-8", "replace")
                allowed = ", ".join(names) or "no parameters"
                detail = f"there is no parameter {name!r} here; what there is: {allowed}"
                raise Problem(400, "invalid_query", detail, field=name)


def channel_of(request: Request) -> str:
    """The channel that the path names.

    Raises:
        Problem: its bytes are not UTF-8.
    """
    raw: bytes | None = request.scope.get("raw_path")
    if raw is not None and b"%" in raw:
        _text(raw, "channel")
    channel: str = request.path_params["channel"]
    return channel


def _text(value: bytes, name: str) -> str:
    try:
        return unquote_to_bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        detail = f"{name} is not UTF-8: percent-encode its UTF-8 bytes, as encodeURIComponent does"
        raise Problem(400, "not_utf8", detail, field=name) from None
