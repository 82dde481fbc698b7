"""`newswire types`: what other programs know of a contract, as files; and whether a change of it breaks them.

A file is written only where its content changes, so that builds don't run again for nothing. Exit codes: 1 a file is
stale (`--check`), or a change breaks readers (`diff`); 2 the command can't be done as it is.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from newswire.cli.terminal import colours
from newswire.contract.asyncapi import asyncapi
from newswire.contract.contract import load
from newswire.contract.diff import Change, diff
from newswire.contract.schema import events_of, json_schema
from newswire.contract.typescript import typescript
from newswire.counted import counted
from newswire.redact import printable

_FAILED, _USAGE = 1, 2
_STDOUT: Final = "-"


class _Types(click.Group):
    """`types MODULE:CONTRACT` writes; `types diff` is a command beside it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["write", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(
            ctx.command_path, "MODULE:CONTRACT [--ts FILE] [--json-schema FILE] [--asyncapi FILE] [--check]"
        )
        formatter.write_usage(ctx.command_path, "diff OLD NEW")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [each for each in self.commands["write"].get_params(ctx) if isinstance(each, click.Option)]
        with formatter.section("Options"):
            formatter.write_dl([found for each in options if (found := each.get_help_record(ctx))])


_APP_DIR: Final = click.option(
    "--app-dir", default=".", metavar="DIR", show_default=True, help="Where Python looks for MODULE first."
)


@click.group(cls=_Types, short_help="TypeScript and schemas of a contract.", add_help_option=True)
def types() -> None:
    """Write the types of a contract for other programs, or compare two versions of one.

    \b
    newswire types shop.events:events --ts web/events.ts            TypeScript, for connect<Events>
    newswire types shop.events:events --ts web/events.ts --check    in CI: exit 1 if the file is stale
    newswire types shop.events:events --json-schema events.json     also what `diff` compares
    newswire types diff events.json shop.events:events              exit 1 if a change breaks readers

    A FILE of - is the standard output, and so is TypeScript where no file is named. OLD and NEW are MODULE:CONTRACT or
    files that --json-schema wrote.
    """


@types.command(hidden=True)
@click.argument("contract", metavar="MODULE:CONTRACT")
@click.option("--ts", metavar="FILE", help="Write TypeScript.")
@click.option("--json-schema", "schema", metavar="FILE", help="Write a JSON Schema (2020-12).")
@click.option("--asyncapi", "api", metavar="FILE", help="Write an AsyncAPI 3.0 document.")
@click.option(
    "--address",
    default="/channels/{channel}",
    show_default=True,
    metavar="PATH",
    help="Where the stream is, for --asyncapi.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file is stale.")
@_APP_DIR
def write(
    contract: str, ts: str | None, schema: str | None, api: str | None, address: str, check: bool, app_dir: str
) -> None:
    """Write files of a contract."""
    document = _document(contract, app_dir)
    made: list[tuple[str, str, str]] = []
    if ts is not None or (schema is api is None and not check):
        made.append(("--ts", ts or _STDOUT, typescript(document, source=contract)))
    if schema is not None:
        made.append(("--json-schema", schema, _json(document)))
    if api is not None:
        made.append(("--asyncapi", api, _json(asyncapi(document, address=address))))
    if not made or (check and any(file == _STDOUT for _, file, _ in made)):
        raise click.UsageError("--check compares files: name them, as --ts FILE does")
    stale = [(flag, file) for flag, file, content in made if not _settle(file, content, check=check)]
    if stale:
        again = shlex.join(["newswire", "types", contract, *(part for pair in stale for part in pair)])
        if app_dir != ".":
            again += f" --app-dir {shlex.quote(app_dir)}"
        names = ", ".join(file for _, file in stale)
        click.echo(f"newswire: stale: {printable(names)}. Renew: {printable(again)}", err=True)
        raise SystemExit(_FAILED)


@types.command("diff", short_help="Compare two versions of a contract.")
@click.argument("old")
@click.argument("new")
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
@_APP_DIR
def compare(old: str, new: str, as_json: bool, app_dir: str) -> None:
    """Say which changes from OLD to NEW break readers that have OLD. Exit code 1 if any does.

    Each is MODULE:CONTRACT, or a file that `newswire types --json-schema` wrote.
    """
    changes = diff(_document(old, app_dir), _document(new, app_dir))
    broken = sum(change.breaking for change in changes)
    if as_json:
        click.echo(json.dumps([change._asdict() for change in changes], ensure_ascii=False, indent=2))
    else:
        for change in changes:
            click.echo(_line(change))
        if not changes:
            click.echo("no reader sees a difference")
        else:
            safe = len(changes) - broken
            click.echo(f"{counted(broken, 'change')} break{'s' if broken == 1 else ''} readers, {safe} safe")
    raise SystemExit(_FAILED if broken else 0)


def _line(change: Change) -> str:
    word = "breaks" if change.breaking else "safe  "
    if colours(sys.stdout):
        word = click.style(word, fg="red" if change.breaking else "green")
    return f"{word}  {printable(change.place)}: {printable(change.what)}"


def _settle(file: str, content: str, *, check: bool) -> bool:
    """Write a file, unless it has this content already. Returns False if it is stale and only checked."""
    if file == _STDOUT:
        click.echo(content, nl=False)
        return True
    path = Path(file)
    try:
        if path.exists() and path.read_text("utf-8") == content:
            return True
        if check:
            return False
        path.write_text(content, "utf-8", newline="\n")
    except FileNotFoundError:
        _fail(f"{file} can't be written: there is no folder {path.parent}")
    except (OSError, UnicodeDecodeError) as error:
        if check and isinstance(error, UnicodeDecodeError):
            return False
        _fail(f"{file} can't be written: {error.strerror if isinstance(error, OSError) else error}")
    return True


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _document(target: str, app_dir: str) -> Mapping[str, Any]:
    """The document of a contract in a module, or in a file."""
    if Path(target).suffix == ".json" or Path(target).is_file():
        return _read(Path(target))
    if ":" not in target:
        raise click.UsageError(f"{target!r} is not MODULE:CONTRACT, such as shop.events:events, nor a JSON file")
    try:
        return json_schema(load(target, app_dir))
    except ValueError as error:
        _fail(str(error))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document: Any = json.loads(path.read_text("utf-8"))
        events_of(document)
    except OSError as error:
        _fail(f"{path} can't be read: {error.strerror}")
    except ValueError as error:
        _fail(f"{path}: {error}")
    found: Mapping[str, Any] = document
    return found


def _fail(message: str) -> NoReturn:
    click.echo(f"newswire: {printable(message)}", err=True)
    raise SystemExit(_USAGE)
