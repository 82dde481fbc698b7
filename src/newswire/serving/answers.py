"""Answers that no cache may keep: what a server says of itself, of its channels and of credentials."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import JSONResponse

from newswire.wire.payload import write_json

NO_STORE: Final = {"cache-control": "no-store"}


class JsonAnswer(JSONResponse):
    """A JSON answer that no cache keeps."""

    def __init__(self, value: Any, status: int = 200) -> None:
        super().__init__(value, status, NO_STORE)

    def render(self, content: Any) -> bytes:
        """Write it; a lone surrogate, which a member's state may have, is escaped."""
        return write_json(content).encode()
