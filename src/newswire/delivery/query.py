"""What a request asks for: the parameters of its query and the channel in its path, read strictly.

Starlette and uvicorn replace bytes that are not UTF-8 by U+FFFD, which would name another channel than the one that was
meant; here such a request is refused. So is a parameter that nothing reads: `?form=earliest` must not begin at the
latest event, in silence. Only a cursor is read with forgiveness, and not here: see `newswire.delivery.request`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from newswire.counted import counted
from newswire.delivery.asgi import Scope
from newswire.delivery.problem import Problem
from newswire.delivery.request import CURSOR, is_cursor

# What polyfills of EventSource add beside the cursor, for old browsers: it changes nothing that a stream sends.
_POLYFILLS: Final = frozenset({b"r", b"padding", b"evs_preamble", b"evs_buffer_size_limit"})

_INTEGER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


class Query:
    """The parameters of a request's query.

    Args:
        raw: the query as it came.
        most: parameters that it may have; parsing more would be work for nothing.

    Raises:
        Problem: it has more.
    """

    def __init__(self, raw: bytes, most: int = 100) -> None:
        if raw.count(b"&") >= most:
            raise Problem(400, "invalid_query", f"the query has more than {counted(most, 'parameter')}", field="query")
        pairs = [part.partition(b"=") for part in raw.replace(b"+", b" ").split(b"&") if part] if raw else ()
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

    def number(self, name: str) -> float | None:
        """The value of a parameter that is a number, such as 0.5.

        Raises:
            Problem: it is none.
        """
        value = self.one(name)
        if value is None:
            return None
        if not _NUMBER.fullmatch(value):
            raise Problem(400, "invalid_query", f"{name} is a number such as 0.5, not {value[:40]!r}", field=name)
        return float(value)

    def count(self, name: str, most: int) -> int | None:
        """The value of a parameter that is an integer from 1 to `most`.

        Raises:
            Problem: it is none.
        """
        value = self.one(name)
        if value is None:
            return None
        if not (_INTEGER.fullmatch(value) and 1 <= int(value) <= most):
            detail = f"{name} is a number from 1 to {most}, not {value[:40]!r}"
            raise Problem(400, "invalid_query", detail, field=name)
        return int(value)

    def only(self, *names: str, also: Iterable[str] = (), cursor: bool = False) -> None:
        """Refuse parameters that would be ignored: `?evt=x` must not publish a `message`.

        Args:
            names: of the parameters that there are.
            also: names that the application's own rules read.
            cursor: whether a cursor is one of them, in any of its spellings.

        Raises:
            Problem: there is another one.
        """
        if not self._pairs:
            return
        known = {name.encode() for name in (*names, *also)}
        for found, _ in self._pairs:
            if found in known or (cursor and (found in _POLYFILLS or is_cursor(found))):
                continue
            shown = (*names, CURSOR) if cursor else names
            name = found[:40].decode("utf-8", "replace")
            near = difflib.get_close_matches(name.lower(), shown, 1)
            hint = f"did you mean {near[0]}?" if near else f"what there is: {', '.join(shown) or 'none'}"
            raise Problem(400, "invalid_query", f"there is no parameter {name!r} here; {hint}", field=name)


def channel_of(scope: Scope) -> str:
    """The channel that the path of an ASGI scope names: the last part, or the one before `/events`.

    Raises:
        Problem: its bytes are not UTF-8.
    """
    raw: bytes | None = scope.get("raw_path")
    if raw is not None and b"%" in raw:
        _text(raw, "channel")
    channel: str = scope["path_params"]["channel"]
    return channel


def _text(value: bytes, name: str) -> str:
    try:
        return unquote_to_bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        detail = f"{name} is not UTF-8: percent-encode its UTF-8 bytes, as encodeURIComponent does"
        raise Problem(400, "not_utf8", detail, field=name) from None
