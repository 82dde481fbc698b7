"""The log that a server is told to use: tried before anything runs, and shown without its password."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import click

from newswire.errors import NewswireError
from newswire.log.base import Retention
from newswire.log.open import open_log


def try_log(url: str, retention: Mapping[str, Retention] | None = None) -> None:
    """Open the log once, so that what is wrong with it is said before anything runs.

    Raises:
        click.ClickException: it can't be used; the message says why.
    """

    async def attempt() -> None:
        log = open_log(url, retention=retention or None)
        try:
            await log.span()
        finally:
            await log.close()

    try:
        asyncio.run(attempt())
    except (NewswireError, ValueError) as error:
        raise click.ClickException(f"the log can't be used: {error}") from None


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    head, slashes, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    return f"{head}{slashes}{name}{':…' if colon else ''}{at}{place}" if at else url
