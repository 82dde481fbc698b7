"""Options that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from newswire.cli.terminal import say, shown_url

_PREFIX: Final = "NEWSWIRE_"  # of all our variables


class ServerUrl(click.ParamType[str]):
    """The address of a server."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType.convert`."""
        url = str(value)
        if not url.startswith(("http://", "https://")):
            self.fail(f"it begins with http:// or https://, and this is {shown_url(url)!r}", param, ctx)
        import httpx2  # late: other options don't need it

        try:
            usable = bool(urlsplit(url).hostname) and urlsplit(url).port != 0
            httpx2.URL(url)
        except (httpx2.InvalidURL, ValueError):
            usable = False
        if not usable:
            self.fail(f"{shown_url(url)!r} has no usable host or port: http://127.0.0.1:8000 is one", param, ctx)
        return url


def _named(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Name a variable that is nearly the option's own, if the option was left to its default."""
    if context.get_parameter_source(str(option.name)) is ParameterSource.DEFAULT:
        own = str(option.envvar).removeprefix(_PREFIX)
        for variable in os.environ:
            if variable.startswith(_PREFIX):
                import difflib  # late, as publishing needs none of it

                if difflib.get_close_matches(variable.removeprefix(_PREFIX), [own]):
                    say(f"{variable} is not read: did you mean {option.envvar}?")
    return value


SERVER_URL: Final = click.option(
    "--url",
    callback=_named,
    type=ServerUrl(),
    default="http://127.0.0.1:8000",
    show_default=True,
    envvar="NEWSWIRE_URL",
    help="The server (NEWSWIRE_URL).",
)

BY_TOKEN: Final = "here by --token or NEWSWIRE_TOKEN"
"""How a credential that a server asks for is given to a command."""

TOKEN: Final = click.option(
    "--token",
    callback=_named,
    envvar="NEWSWIRE_TOKEN",
    metavar="TOKEN",
    help="A token or an API key for the server at --url (NEWSWIRE_TOKEN, which other users can't see).",
)


def bearer(token: str | None) -> dict[str, str]:
    """The header that brings a token; none without one.

    Raises:
        click.UsageError: it is no token.
    """
    if token is None:
        return {}
    if not token.strip().isascii() or not token.strip().isprintable() or " " in token.strip():
        raise click.UsageError("--token is a token or an API key: one word of ASCII characters")
    return {"authorization": f"Bearer {token.strip()}"}


class Header(click.ParamType[tuple[str, str]]):
    """A header of a request, as its name and its value."""

    name = "header"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """See `click.ParamType.convert`."""
        name, colon, text = str(value).partition(":")
        if not colon or not name.strip():
            self.fail(f"it is 'NAME: VALUE', not {value[:40]!r}", param, ctx)
        return name.strip(), text.strip()


class BodyParam(click.ParamType[bytes]):
    """A request's body: a text, `@FILE`, or `@-` for the standard input."""

    name = "body"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """See `click.ParamType.convert`."""
        text = str(value)
        if not text.startswith("@"):
            return text.encode("utf-8", "surrogateescape")
        try:
            return sys.stdin.buffer.read() if text == "@-" else Path(text[1:]).read_bytes()
        except OSError as error:
            self.fail(f"{text[1:]} can't be read: {error.strerror}", param, ctx)


class Networks(click.ParamType[tuple[str, ...]]):
    """Addresses and networks such as 10.0.0.1 or 10.0.0.0/8, commas between several; `*` for all."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """See `click.ParamType.convert`."""
        from newswire.serving import option_types  # late, as it brings the log

        kind = option_types.networks()
        try:
            found: tuple[str, ...] = kind.read(value)
        except ValueError:
            self.fail(f"{value!r} can't be used: give {kind.allowed}", param, ctx)
        return found


HEADERS: Final = click.option(
    "--header", "headers", type=Header(), multiple=True, metavar="'NAME: VALUE'", help="A header of each request."
)
BODY: Final = click.option(
    "--data",
    "body",
    type=BodyParam(),
    metavar="TEXT|@FILE",
    help="A body for the request; JSON unless a header says otherwise.",
)


def headers_of(given: Iterable[tuple[str, str]], body: bytes | None) -> dict[str, str]:
    """The headers of a request by `HEADERS` and `BODY`: a body without a type of its own is JSON."""
    headers = dict(given)
    if body is not None and "content-type" not in {name.lower() for name in headers}:
        headers["content-type"] = "application/json"
    return headers


class Duration(click.ParamType[float]):
    """A time such as 15, 15s, 1.5s or 2m, as a float of seconds.

    Args:
        zero: whether 0 is one too.
    """

    name = "time"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType.convert`."""
        if isinstance(value, float):  # a default
            return value
        from newswire.serving import option_types  # late, as it brings the log

        kind = option_types.duration()
        try:
            return 0.0 if self._zero and str(value) in ("0", "0.0", "0s") else float(kind.read(value))
        except (ValueError, TypeError, KeyError):
            self.fail(f"{value!r} is no time: give {kind.allowed}", param, ctx)
