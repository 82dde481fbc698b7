"""Starts `newswire serve` and `newswire relay`: finds what is wrong before anything runs, and says where it runs.

The log is tried and the port taken before the first line is printed. `newswire.cli.launch` does the rest.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import click

from newswire import __version__, posix
from newswire.cli import early
from newswire.cli.launch import Launch, launch, shared_folder
from newswire.cli.listeners import address_of, is_public, listen, urls_of
from newswire.cli.settings import SettingsReader
from newswire.errors import NewswireError
from newswire.log.open import open_log
from newswire.log.retention import KEEP_ALL
from newswire.redact import printable, without_userinfo
from newswire.serving.json_logs import JsonFormatter
from newswire.serving.settings import ServerSettings

S = TypeVar("S", bound=ServerSettings)


def serve_app(
    settings: S,
    create: Callable[..., Any],
    *,
    danger: str,
    banner: Callable[[str], Iterable[str]],
    again: SettingsReader[S] | None = None,
) -> None:
    """Run a served application until a signal stops it.

    Args:
        settings: of the application.
        create: makes it, of the settings and a `stats_folder`; picklable.
        danger: what a public address means, if it asks no client for credentials.
        banner: the lines that say what runs, for its URL.
        again: reads the settings again at each SIGHUP; `create` gets it too.

    Raises:
        click.ClickException: it can't run; the message says why.
    """
    if settings.fd is None:
        _check_public(settings, settings.host, danger)  # before its port is taken
    early.stop_in_order()
    if again is None and settings.workers == 1:
        early.end_on_hangup()
    _try_log(settings)
    listeners, handed_over = listen(settings.host, settings.port, settings.fd)
    if handed_over:
        found = _placed(listeners)
        settings = replace(settings, **found)
        again = None if again is None else replace(again, fixed=found)
        _check_public(settings, settings.host, danger)
    _announce(settings, urls_of(listeners, None if handed_over else settings.host), banner)
    with shared_folder(needed=settings.workers > 1) as folder:
        given: dict[str, Any] = {"stats_folder": folder}
        if again is not None:
            given["again"] = again
            if posix.HANGUP is not None:
                early.note_hangups()  # until the application listens
        what = Launch(
            app=partial(create, settings, **given),
            again=again,
            workers=settings.workers,
            grace=settings.grace,
            access_log=settings.access_log,
            json_logs=settings.log_format == "json",
            trusted=settings.trusted_proxy,
            more={"lifespan": "on", "timeout_keep_alive": settings.keep_alive, "ws": _websockets()},
        )
        launch(what, listeners)


def _websockets() -> Any:
    """What uvicorn does with WebSockets, which our applications refuse: its library, if there is one, is imported when
    a client asks for the first. That is a tenth of the work of a start."""
    there = any(importlib.util.find_spec(name) for name in ("websockets", "wsproto"))
    return _refusing if there else "none"


def _refusing(**given: Any) -> asyncio.Protocol:
    from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

    assert AutoWebSocketsProtocol is not None
    return AutoWebSocketsProtocol(**given)


def _check_public(settings: ServerSettings, host: str, danger: str) -> None:
    if is_public(host) and not (settings.insecure or settings.authenticates):
        raise click.ClickException(f"{host} can be reached from other machines, {danger}, or give --insecure")


def _placed(listeners: Sequence[socket.socket]) -> dict[str, Any]:
    """The settings that sockets which were handed over decide: the server is where they are."""
    addresses = [address for each in listeners if (address := address_of(each)) is not None]
    if not addresses:  # Unix sockets, which only this machine reaches
        return {"host": "127.0.0.1"}
    host, port = next((address for address in addresses if is_public(address[0])), addresses[0])
    return {"host": host, "port": port}


def _announce(settings: ServerSettings, url: str, banner: Callable[[str], Iterable[str]]) -> None:
    """Say what runs, and where."""
    workers = f", {settings.workers} workers" if settings.workers > 1 else ""
    if settings.log_format == "json":
        message = f"newswire {__version__} on {url}, log {settings.log}{workers}"
        record = logging.LogRecord("newswire.server", logging.INFO, "", 0, message, None, None)
        click.echo(JsonFormatter().format(record), err=True)
        return
    click.secho(f"newswire {__version__} ", bold=True, nl=False, err=True)
    for line in banner(click.style(url, fg="cyan")):
        click.echo(line, err=True)
    click.secho(f"log {without_userinfo(settings.log)}{workers}; Ctrl-C stops it", dim=True, err=True)


def _try_log(settings: ServerSettings) -> None:
    """Open the log once, so that an error in it is shown before anything runs. An edge waits for its origin."""

    async def attempt() -> None:
        log = open_log(settings.log, retention=KEEP_ALL)  # only a look
        try:
            await log.span()
        finally:
            await log.close()

    try:
        asyncio.run(attempt())
    except (NewswireError, ValueError) as error:
        if settings.may_wait(error):
            return
        raise click.ClickException(printable(without_userinfo(f"the log can't be used: {error}"))) from None
