"""What the commands below `newswire log` share: which log, which rules, and how they run and fail.

A log is named as `newswire serve` names it: by an argument or `--log`, else by NEWSWIRE_LOG, else by `log` in
newswire.toml, else it is the file that `newswire serve` uses. Nothing here makes a log that is not there, but `init`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import tomllib
from collections.abc import Callable, Coroutine, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

import click

from newswire.cli.settings import FILE
from newswire.cli.terminal import INTERRUPTED
from newswire.errors import NewswireError
from newswire.log.log import Log
from newswire.log.open import open_log
from newswire.log.retention import DEFAULT_RETENTION, KEEP_ALL, Retention, RetentionRules
from newswire.redact import printable, without_userinfo
from newswire.serving import option_types

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_DEFAULT: Final = "sqlite:///newswire.db"
# Logs that are no server's: a file is looked for here, and an edge makes nothing.
_OTHERS: Final = ("memory", "sqlite", "http", "https")
_RULES: Final = option_types.retention()


def which_log(command: F) -> F:
    """Give a command `url`: an argument, or the option `--log`."""
    return click.option(
        "--log",
        "url",
        envvar="NEWSWIRE_LOG",
        default=lambda: _from_file("log") or _DEFAULT,
        metavar="URL",
        help=f"The log (NEWSWIRE_LOG, or log in {FILE}) [{_DEFAULT}].",
    )(command)


def or_argument(command: F) -> F:
    """Let the log be an argument too."""
    return click.argument("place", required=False, metavar="[URL]")(which_log(command))


def with_rules(command: F) -> F:
    """Give a command `retention`: what `newswire serve` keeps with the same settings."""
    return click.option(
        "--retention",
        type=_Rules(),
        envvar="NEWSWIRE_RETENTION",
        default=lambda: _from_file("retention") or "default",
        metavar="RULES",
        help="What to keep, by channel pattern, as for `newswire serve`: 'orders.>:max_age=7d,max_events=1000'.",
    )(command)


class _Rules(click.ParamType[Any]):
    """Rules of retention, as `newswire serve --retention` has them."""

    name = "rules"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> RetentionRules:
        """See `click.ParamType.convert`."""
        if isinstance(value, (Retention, Mapping)) and not isinstance(value, str):
            return value
        try:
            if not str(value).strip():
                raise ValueError(value)  # a variable of the shell that is not set must not mean "everything"
            rules: RetentionRules = _RULES.read(value)
        except (ValueError, TypeError, AttributeError, KeyError):
            self.fail(f"{str(value)[:100]!r} can't be used: give {_RULES.allowed}", param, ctx)
        return DEFAULT_RETENTION if rules is None else rules


def opened(url: str, *, retention: RetentionRules = KEEP_ALL, make: bool = False) -> Log:
    """The log of a URL.

    Args:
        url: where it is.
        retention: what is kept while it is open; by default nothing is removed.
        make: whether it may be one that is not there.

    Raises:
        click.ClickException: there is none; the message says why.
    """
    scheme = url.partition(":")[0].lower()
    options = {} if make or scheme in _OTHERS else {"create": False}
    try:
        log = open_log(url, retention=retention, **options)
    except (ValueError, ImportError) as error:
        raise click.ClickException(shown(str(error))) from None
    if not log.engine.shared:
        raise click.ClickException(
            "memory:// is the log of one process, and this command is another: it would see an empty one"
        )
    path = unquote(urlsplit(url).path).removeprefix("/") if url.startswith("sqlite:") else None
    if path and not make and not os.path.exists(path):
        raise click.ClickException(shown(f"there is no file {path}: `newswire log init` makes it"))
    if path and not make and not _has_log(path):
        raise click.ClickException(shown(f"{path} has no log: `newswire log init` makes one beside what is there"))
    return log


def _has_log(path: str) -> bool:
    """Whether a file has a log. What is no database the log itself tells."""
    from newswire.log.sqlite.schema import is_ours

    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
            return is_ours(connection) or connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    except sqlite3.Error:
        return True


def run(call: Coroutine[Any, Any, T]) -> T:
    """Do the work of a command.

    Raises:
        click.ClickException: the log can't be used; the message says why.
    """
    logger = logging.getLogger("newswire.log")  # a log that can't be reached is reported here
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    try:
        return asyncio.run(call)
    except NewswireError as error:
        raise click.ClickException(shown(str(error))) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def shown(text: str) -> str:
    """Text that may be shown: no password in a URL, no control characters."""
    return printable(without_userinfo(text))


def _from_file(key: str) -> Any:
    """A plain setting of newswire.toml; None if it is not there. What is wrong in the file `newswire serve` tells."""
    try:
        return tomllib.loads(Path(FILE).read_text("utf-8")).get(key)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
