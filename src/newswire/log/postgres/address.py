"""Where the database is: a URL, taken apart so that no part of a password can get into an error.

A URL is what libpq and asyncpg take. It may name several hosts; then the one that can be written to is used.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import asyncpg  # type: ignore[import-untyped]

_HOST: Final = re.compile(r"(?:[\w.%-]+|\[[0-9a-fA-F:.]+\])?(?::\d{1,5})?")
_CANCEL_SECONDS: Final = 1.0
_PORT: Final = re.compile(r":\d+$")


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A database server.

    Attributes:
        url: with the password, in the form that asyncpg takes.
        name: without it, for people.
        options: the names of those in the URL.
    """

    url: str
    name: str
    options: frozenset[str]

    def __repr__(self) -> str:
        return f"Address({self.name!r})"

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL.

        Raises:
            ValueError: it can't be used. The message has no password in it.
        """
        parts = urlsplit(url)
        user, at, hosts = parts.netloc.rpartition("@")
        name, colon, password = user.partition(":")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        many = hosts.split(",")
        if (
            parts.scheme.partition("+")[0] not in ("postgresql", "postgres")
            or parts.fragment
            or not all(map(_HOST.fullmatch, many))
        ):
            raise ValueError(
                "this PostgreSQL URL can't be used: look at its host, port and database, and write special characters "
                "of the password as %40"
            )
        if len(many) > 1 or "," in query.get("host", ""):
            query.setdefault("target_session_attrs", "read-write")
        # asyncpg looks for the first @ and takes what is behind it for hosts.
        user = quote(unquote(name), safe="") + (f":{quote(unquote(password), safe='')}" if colon else "")
        netloc = f"{user}{at}{hosts}"
        database = parts.path.lstrip("/")
        place = hosts or query.get("host") or "localhost"
        where = [each if _PORT.search(each) else f"{each}:{query.get('port', 5432)}" for each in place.split(",")]
        return cls(
            f"postgresql://{netloc}/{database}{f'?{urlencode(query)}' if query else ''}",
            f"{','.join(where)}/{unquote(database) or query.get('dbname', '')}",
            frozenset(query),
        )

    async def connect(self, settings: dict[str, str], **options: Any) -> asyncpg.Connection[Any]:
        """Make a connection, with settings of the session for which the URL has none."""
        settings = {name: value for name, value in settings.items() if name not in self.options}
        connecting = asyncio.ensure_future(asyncpg.connect(self.url, server_settings=settings, **options))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            # asyncpg leaves a future behind if it is cancelled while it asks for TLS.
            connecting.add_done_callback(_drop)
            await asyncio.wait([connecting], timeout=_CANCEL_SECONDS)
            connecting.cancel()
            raise


def _drop(connecting: asyncio.Future[asyncpg.Connection[Any]]) -> None:
    """Close a connection that came too late."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().terminate()
