"""`newswire init`: a newswire.toml that lists every setting of `newswire serve` and `relay` with its use and default.

All of it comes from the settings themselves, so a new setting is in the file without a line here. Each is a comment: a
setting that you leave so keeps following the defaults of the version that runs.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, Final

import click

from newswire.cli.settings import FILE
from newswire.cli.terminal import echo_done
from newswire.relay.settings import RelaySettings
from newswire.server.settings import Settings
from newswire.serving.settings import ServerSettings, type_of

_WIDTH: Final = 100  # columns
_HEAD: Final = """\
# The settings of `newswire serve`; those of `newswire relay` follow below [relay].
# Each has its default here, as a comment: remove the # to change it.
# A flag of the command or a variable of the environment (NEWSWIRE_PORT for port) counts more than this file.
# `newswire serve --show-config` prints what counts, and where it comes from.
"""
_RELAY: Final = """
# The settings of `newswire relay`. Its variables of the environment begin with NEWSWIRE_RELAY_.
[relay]
"""


@click.command(short_help="Write a newswire.toml with every setting.")
@click.argument("file", default=FILE, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(file: Path, force: bool) -> None:
    """Write a file of settings for serve and relay, newswire.toml in this folder, with each default as a comment."""
    try:
        with file.open("w" if force else "x", encoding="utf-8") as written:
            try:
                written.write(settings_file())
                written.flush()
            except OSError:
                file.unlink()  # a part of it would be read as a file without settings
                raise
    except FileExistsError:
        raise click.ClickException(f"{file} is there already: give --force to replace it, or another name") from None
    except OSError as error:
        raise click.ClickException(f"{file} can't be written: {(error.strerror or str(error)).lower()}") from None
    done = f"{file} is written"
    echo_done(f"{done}: `newswire serve{'' if file == Path(FILE) else f' --config {file}'}` reads it", done)


def settings_file() -> str:
    """The text of a TOML file with each setting as a comment."""
    return _HEAD + _all(Settings) + _RELAY + _all(RelaySettings)


def _all(of: type[ServerSettings]) -> str:
    return "".join("\n" + "\n".join(_lines(one)) + "\n" for one in fields(of))


def _lines(one: Field[Any]) -> Iterator[str]:
    kind = type_of(one)
    explained = one.metadata["help"].replace("Repeatable.", "A list.")
    for paragraph in (explained, f"Allowed: {kind.allowed}."):
        yield from textwrap.wrap(
            paragraph,
            _WIDTH,
            initial_indent="# ",
            subsequent_indent="# ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    yield f"#{one.name.replace('_', '-')} = {_value(one)}"


def _value(one: Field[Any]) -> str:
    """The default, as TOML."""
    if one.default == ():
        return "[]"
    shown = type_of(one).show(one.default)
    return shown if shown.isdecimal() or isinstance(one.default, bool) else json.dumps(shown)
