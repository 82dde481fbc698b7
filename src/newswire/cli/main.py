"""The `newswire` command: the group that all commands belong to, and its entry point.

A command's module is imported when it is called, so that `newswire publish` in a shell loop loads no
server. The garbage collector looks at no module, neither while they are imported nor when Python ends: that was a fifth
of what a command's start and end cost.
"""

from __future__ import annotations

import errno
import gc
import sys
from typing import Final

from newswire import __version__
from newswire.cli import early

early.hear()  # before anything that takes long

# What the extra `server` brings. Anything else that can't be imported is a fault of the application that was to run.
_EXTRA: Final = frozenset({"click", "httptools", "httpx2", "prometheus_client", "rich", "starlette", "uvicorn"})
_MISSING: Final = "newswire: this command needs {}, which is not installed: pip install 'newswire[server]'"
# Why standard output takes no more, where nothing else is at fault.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

try:
    import click

    from newswire.cli.group import CommandGroup
    from newswire.cli.terminal import INTERRUPTED, discard, discard_unwritten, standard_streams, wants_colours
    from newswire.reason import reason
except ModuleNotFoundError:
    if sys.argv[1:] == ["--version"]:
        print(f"newswire, version {__version__}")
        sys.exit()
    sys.exit(_MISSING.format("click"))

_SHARED: Final = {"ticket": "token", "key": "token"}  # commands whose module has another name
_COMMANDS: Final = (
    "init",
    "serve",
    "relay",
    "run",
    "publish",
    "tail",
    "types",
    "log",
    "token",
    "ticket",
    "key",
    "top",
    "doctor",
    "completion",
)
_LATE: Final = {name: f"newswire.cli.{_SHARED.get(name, name)}" for name in _COMMANDS}


class _Commands(CommandGroup):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click's own answer is status 1, which says something else in most commands
            raise SystemExit(INTERRUPTED) from None


@click.command(
    cls=_Commands, late=_LATE, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="newswire")
@click.pass_context
def newswire(context: click.Context) -> None:
    """Server-Sent Events, end to end: publish an event, and every subscriber reads it from where it left off.

    \b
    newswire init                       a newswire.toml with every setting and its default
    newswire serve                      a server on http://127.0.0.1:8000, its log in ./newswire.db
    newswire tail news                  what comes on a channel, as it comes
    newswire publish news 'It works'    an event for it
    newswire token --jwt-secret S ...   a credential for a server that asks for one
    newswire top                        channels and streams of a server, live, in a terminal
    newswire doctor URL                 what is wrong with an event stream, and how to cure it
    newswire relay --upstream URL       an AI API whose answers outlive the connection
    newswire log info                   what a log holds, and what it could lose
    """
    if not wants_colours():
        context.color = False  # click asks only whether there is a terminal


def main() -> None:
    """Run the command line."""
    standard_streams()
    try:
        newswire()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.exit(_MISSING.format(missing))
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        discard(sys.stdout)  # else Python tries again when it ends, and complains
        sys.exit(f"newswire: the output can't be written: {reason(error)}")
    finally:  # else Python's own status is 120 where a terminal was closed, whatever the command says
        for stream in (sys.stdout, sys.stderr):
            discard_unwritten(stream)
        gc.freeze()


if __name__ == "__main__":
    main()
