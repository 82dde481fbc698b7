"""The settings of a command that serves: its flags, `--config` and `--show-config`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from newswire.cli.plain import say
from newswire.errors import InvalidSetting
from newswire.redact import printable, without_userinfo
from newswire.serving.settings import FILE, Section, ServerSettings, default_of, flag_of, kind_of

S = TypeVar("S", bound=ServerSettings)


def with_settings(section: Section[S]) -> Callable[[Callable[[S], None]], Callable[..., None]]:
    """Give a command a flag for each setting; it is called with the settings, read and checked."""

    def decorate(command: Callable[[S], None]) -> Callable[..., None]:
        @functools.wraps(command)
        def called(config: Path | None, show_config: bool, **flags: Any) -> None:
            if config is None and Path(FILE).is_file():
                config = Path(FILE)
            try:
                settings, sources = section.load(flags, os.environ, config, say)
            except InvalidSetting as error:
                raise click.ClickException(printable(without_userinfo(str(error)))) from None
            if show_config:
                _show(section, settings, sources)
            else:
                command(settings)

        made = _flags(section, called)
        show = "Print every setting, its value and where it comes from; then exit."
        made = click.option("--show-config", is_flag=True, help=show)(made)
        return click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar="NEWSWIRE_CONFIG",
            help=f"A TOML file of settings [{FILE}, if there is one].",
        )(made)

    return decorate


def _flags(section: Section[S], command: Callable[..., None]) -> Callable[..., None]:
    for one in reversed([*section.fields.values()]):
        kind = kind_of(one)
        options: dict[str, Any] = {"metavar": kind.metavar, "multiple": kind.several is not None}
        if isinstance(one.default, bool):
            options = {"is_flag": True, "default": None}
        default = "" if options.get("is_flag") else f" [{default_of(one)}]"
        names = dict.fromkeys([flag_of(one), "--" + one.name.replace("_", "-")])  # of several, the plural works too
        command = click.option(*names, one.name, help=one.metadata["help"] + default, **options)(command)
    return command


def _show(section: Section[S], settings: S, sources: Mapping[str, str]) -> None:
    rows = list(section.show(settings, sources))
    wide = max(len(name) for name, _, _ in rows)
    long = max(len(value) for _, value, _ in rows if len(value) <= 40)
    for name, value, source in rows:
        shown = without_userinfo(value)
        line = f"{name:{wide}}  {shown:{long}}  "
        click.echo(line + click.style(source, dim=source == "default", fg=None if source == "default" else "green"))
