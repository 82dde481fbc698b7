"""The log that a server is told to use: tried before anything runs."""

from __future__ import annotations

import asyncio

import click

from newswire.errors import NewswireError
from newswire.log.open import open_log
from newswire.log.retention import KEEP_ALL
from newswire.redact import printable, without_userinfo


def try_log(url: str) -> None:
    """Open the log once, so that what is wrong with it is said before anything runs.

    Raises:
        click.ClickException: it can't be used; the message says why.
    """

    async def attempt() -> None:
        log = open_log(url, retention=KEEP_ALL)  # only a look
        try:
            await log.span()
        finally:
            await log.close()

    try:
        asyncio.run(attempt())
    except (NewswireError, ValueError) as error:
        raise click.ClickException(printable(without_userinfo(f"the log can't be used: {error}"))) from None
