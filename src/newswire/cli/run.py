"""`newswire run`: any ASGI application on uvicorn, with the direct path and streams that end when asked.

The application is imported and checked here, and gets its drain. Worker and reloading processes start from nothing and
know only their environment, so the command leaves its options there. What can't be run is refused with a sentence and
the line of the user's own code that failed, without the forty frames of importers around it.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import click
from uvicorn.config import STARTUP_FAILURE

from newswire import __version__
from newswire.cli import early
from newswire.cli.launch import Launch, launch, shared_folder
from newswire.cli.listeners import listen, urls_of
from newswire.cli.options import Duration, Networks
from newswire.delivery.drain import drain_of
from newswire.reason import what_failed

_TARGET: Final = "newswire.cli.run:load"
_VARIABLE: Final = "NEWSWIRE_RUN"
_BEGUN: Final = "begun"  # a file, left by the first process that has its application


@click.command(short_help="Run any ASGI application, with the direct path and a drain.")
@click.argument("app", metavar="MODULE:APP")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--fd", type=click.IntRange(3), help="Listen on this file descriptor, which a supervisor has bound.")
@click.option("--workers", type=click.IntRange(1, 512), default=1, show_default=True, help="Processes.")
@click.option("--reload", is_flag=True, help="Start again when the code changes.")
@click.option("--reload-dir", multiple=True, metavar="DIR", help="Watch this folder, not the present one.")
@click.option("--app-dir", default=".", show_default=True, help="Where to import the module from.")
@click.option("--factory", is_flag=True, help="APP is a callable that gives the application.")
@click.option(
    "--drain",
    type=click.Choice(["goodbye", "drain"]),
    default="goodbye",
    show_default=True,
    help="On SIGTERM: end every stream with a goodbye at once, or let those that have an end come to it first.",
)
@click.option(
    "--grace",
    type=Duration(),
    default="10s",
    metavar="TIME",
    show_default=True,
    help="How long streams may take to end when the server stops.",
)
@click.option("--ssl-certfile", type=click.Path(exists=True, dir_okay=False), help="Serve HTTPS with this certificate.")
@click.option("--ssl-keyfile", type=click.Path(exists=True, dir_okay=False), help="Its key.")
@click.option("--root-path", default="", metavar="PATH", help="The path that a proxy puts this application under.")
@click.option(
    "--trusted-proxy",
    "--forwarded-allow-ips",
    type=Networks(),
    multiple=True,
    envvar="FORWARDED_ALLOW_IPS",
    metavar="ADDRESS",
    help="Believe the X-Forwarded headers of a proxy at this address or in this network. Repeatable.",
)
@click.option(
    "--log-level",
    type=click.Choice(["critical", "error", "warning", "info", "debug", "trace"]),
    default="warning",
    show_default=True,
)
@click.option("--access-log", is_flag=True, help="Write a line for each request.")
def run(app: str, host: str, port: int, **options: Any) -> None:
    """Run any ASGI application on uvicorn with the direct path and a drain.

    The options are uvicorn's, as far as there are any; but X-Forwarded headers count only if they come from a proxy
    that --trusted-proxy names, also on this machine. Where you start uvicorn yourself, give it
    --http newswire.delivery.uvicorn:DirectHttpProtocol for the same.
    """
    module, colon, attribute = app.partition(":")
    meant = f"{_module_of(Path(module))}:{attribute or 'app'}"
    is_path = "/" in module or "\\" in module or (Path(options["app_dir"]) / module).is_file()
    if is_path and meant != app:  # it is the same for a file whose name has no suffix
        raise click.UsageError(f"{app!r} begins with a path, not with a module: did you mean {meant}?")
    if not (module and colon and attribute):
        raise click.UsageError(f"{app!r} is not MODULE:APP, such as main:app")
    if options["reload"] and options["workers"] > 1:
        raise click.UsageError("--reload runs one process: leave out --workers")
    early.stop_in_order()
    if options["workers"] == 1:
        early.end_on_hangup()
    sys.path.insert(0, options["app_dir"])
    alone = options["workers"] == 1 and not options["reload"]
    try:  # before the port is taken and the first message is shown
        look_for(module)
        found = find(app, factory=options["factory"]) if alone else None
    except NotRunnable as error:
        click.echo(f"newswire: {error}", err=True)
        raise SystemExit(STARTUP_FAILURE) from None
    listeners, handed_over = listen(host, port, options["fd"])
    url = urls_of(listeners, None if handed_over else host, tls=options["ssl_certfile"] is not None)
    banner = f"{click.style(f'newswire {__version__}', bold=True)} runs {app} on {click.style(url, fg='cyan')}; "
    banner += "Ctrl-C stops it"
    with shared_folder(needed=not alone) as folder:
        passed = {name: options[name] for name in ("factory", "drain", "grace", "workers")}
        passed |= {"app": app, "banner": banner, "folder": str(folder)}
        os.environ[_VARIABLE] = json.dumps(passed)
        if alone:
            click.echo(banner, err=True)
        _launch(partial(Drained, found, options["drain"], options["grace"]) if alone else _TARGET, options, listeners)


def _module_of(path: Path) -> str:
    """The name that a file is imported by, with the option that it needs."""
    path = path.with_suffix("") if path.name else path / "main"
    if path.is_absolute() or ".." in path.parts:
        return f"--app-dir {path.parent} {path.name}"
    return ".".join(path.parts)


def _launch(app: str | Callable[[], Any], options: Mapping[str, Any], listeners: list[socket.socket]) -> None:
    passed = ("ssl_certfile", "ssl_keyfile", "root_path")
    what = Launch(
        app=app,
        workers=options["workers"],
        reload=options["reload"],
        reload_dirs=options["reload_dir"],
        grace=options["grace"],
        log_level=options["log_level"],
        access_log=options["access_log"],
        trusted=tuple(chain.from_iterable(options["trusted_proxy"])),
        more={name: options[name] for name in passed},
    )
    launch(what, listeners)


class NotRunnable(Exception):
    """The application can't be run; the message says why, for people."""


def load() -> Drained:
    """Import the application in a process of uvicorn's; exit if that fails."""
    passed = json.loads(os.environ[_VARIABLE])
    try:
        app = find(passed["app"], factory=passed["factory"])
    except NotRunnable as error:
        if _is_first(Path(passed["folder"]) / "failed") or not passed["workers"] > 1:
            click.echo(f"newswire: {error}", err=True)
        sys.exit(STARTUP_FAILURE)
    if _is_first(Path(passed["folder"]) / _BEGUN):
        click.echo(passed["banner"], err=True)
    return Drained(app, passed["drain"], passed["grace"])


def look_for(module: str) -> None:
    """Check that a module exists, without importing it.

    Raises:
        NotRunnable: it does not.
    """
    first = module.partition(".")[0]
    try:
        found = first in sys.modules or importlib.util.find_spec(first) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise NotRunnable(f"there is no module {first!r} in {Path(sys.path[0]).resolve()}: --app-dir says where it is")


def find(target: str, *, factory: bool) -> Any:
    """Import an application, or call what makes it.

    Args:
        target: `MODULE:ATTRIBUTE`.
        factory: the attribute is a callable without arguments that returns the application.

    Raises:
        NotRunnable: there is none, it fails, or it is no ASGI application.
    """
    module, _, attribute = target.partition(":")
    look_for(module)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise NotRunnable(f"there is no module {error.name!r}: --app-dir says where it is") from None
        raise NotRunnable(what_failed(f"{module} can't be imported", error)) from None
    except Exception as error:  # the user's code; what it raises is shown, and ends the command
        raise NotRunnable(what_failed(f"{module} can't be imported", error)) from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise NotRunnable(f"{module} has no attribute {attribute!r}{_instead(found, module)}")
        found = getattr(found, part)
    if factory:
        if not callable(found):
            raise NotRunnable(f"{target} is {_a(found)} and can't be called: leave --factory out")
        try:
            found = found()
        except Exception as error:  # as above
            raise NotRunnable(what_failed(f"{target} fails", error)) from None
    _check(found, target, factory=factory)
    return found


def _check(app: Any, target: str, *, factory: bool) -> None:
    """Refuse what can't be called as an ASGI application: it would start, and answer 500 to everything."""
    returned = "returns" if factory else "is"
    if not callable(app):
        raise NotRunnable(f"{target} {returned} {_a(app)}, which is no ASGI application{_instead_of(app, target)}")
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return  # written in C, perhaps
    try:
        signature.bind(None, None, None)
        return
    except TypeError:
        pass
    try:
        signature.bind()
        hint = "it takes no arguments: if it makes the application, say --factory"
    except TypeError:
        try:
            signature.bind(None, None)
            hint = "it takes two arguments, as WSGI applications do: wrap it, in a2wsgi.WSGIMiddleware for example"
        except TypeError:
            hint = "one takes scope, receive and send"
    raise NotRunnable(f"{target} {returned} {_a(app)}, which is no ASGI application: {hint}")


def _a(value: Any) -> str:
    name = value.__name__ if inspect.isclass(value) else type(value).__name__
    kind = f"the class {name}" if inspect.isclass(value) else f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"
    return "None" if value is None else kind


def _instead_of(app: Any, target: str) -> str:
    module = sys.modules.get(target.partition(":")[0])
    return "" if module is None else _instead(module, target.partition(":")[0])


def _instead(module: Any, name: str) -> str:
    """What in a module looks like an application."""
    found = [
        attribute
        for attribute, value in vars(module).items()
        if not attribute.startswith("_") and not inspect.isclass(value) and hasattr(value, "router") and callable(value)
    ]
    return f": did you mean {name}:{found[0]}?" if found else ""


def _is_first(marker: Path) -> bool:
    """Whether this process is the first of its siblings to come here."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError:
        return False
    return True


class Drained:
    """An ASGI application whose streams end as the options of `run` say."""

    def __init__(self, app: Any, mode: Any, grace: float) -> None:
        self._app = app
        self._mode = mode
        self._grace = grace
        self._set = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self._set:
            self._set = True
            drain = drain_of(asyncio.get_running_loop())
            drain.mode, drain.grace = self._mode, self._grace
        await self._app(scope, receive, send)
