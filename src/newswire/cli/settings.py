"""The settings of a command that serves: a flag, else the environment, else `newswire.toml`, else the default.

Click finds the value and knows where it came from. This module makes an option of each field of the dataclass, reads
the file, and refuses what can't be used with its source, its name and what is allowed. An unknown flag or key is an
error, so that a slip of the pen is never a setting that silently does nothing. An unknown variable is a warning, since
it may belong to something else.

`newswire serve` has the plain names (`NEWSWIRE_PORT`, `port` in the file), any other command a section: `newswire
relay` has `NEWSWIRE_RELAY_PORT`, and `port` below `[relay]`.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import pkgutil
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Generic, NoReturn, TypeVar

import click
from click.core import ParameterSource

from newswire.cli.terminal import say
from newswire.errors import InvalidChannel, InvalidSetting
from newswire.redact import printable, without_userinfo
from newswire.serving.option_types import RefusedValue
from newswire.serving.settings import SECTIONS, ServerSettings, flag_of, type_of

S = TypeVar("S", bound=ServerSettings)

FILE: Final = "newswire.toml"
_NOT_SETTINGS: Final = frozenset(
    {"NEWSWIRE_URL", "NEWSWIRE_TOKEN", "NEWSWIRE_CONFIG", "NEWSWIRE_RUN", "NEWSWIRE_FAST", "NEWSWIRE_POSIX"}
)
# Kubernetes sets these in every pod beside a service named "newswire", or "newswire-relay".
_OF_KUBERNETES: Final = re.compile(r"(service|port)_.*")
_ARGUMENTS: Final = "newswire.cli.arguments"
_PLACES: Final = "newswire.cli.settings"  # of `Context.meta`: where the file has each setting, by name
_FOUND: Final = "newswire.cli.file"  # of `Context.meta`: the file that was read, or None


def with_settings(
    of: type[S], plain: type[ServerSettings] | None = None
) -> Callable[[Callable[[S], None]], Callable[..., None]]:
    """Give a command a flag for each setting, `--config` and `--show-config`; it is called with the settings.

    Args:
        of: the settings' dataclass.
        plain: the dataclass that has the plain names in the file and the environment, to find slips among those too.
    """

    def decorate(command: Callable[[S], None]) -> Callable[..., None]:
        @functools.wraps(command)
        def called(show_config: bool, **values: Any) -> None:
            settings, sources = settings_of(click.get_current_context(), of)
            if show_config:
                _show(settings, sources)
            else:
                command(settings)

        made: Callable[..., None] = called
        for one in reversed(fields(of)):
            names = dict.fromkeys([flag_of(one), "--" + one.name.replace("_", "-")])  # of several, the plural too
            made = click.option(*names, one.name, cls=_Setting, one=one, of=of)(made)
        show = "Print every setting, its value and where it comes from; then exit."
        made = click.option("--show-config", is_flag=True, help=show)(made)
        return click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar="NEWSWIRE_CONFIG",
            is_eager=True,
            expose_value=False,
            callback=functools.partial(_configure, of, plain),
            help=f"A TOML file of settings [{FILE}, if there is one].",
        )(made)

    return decorate


@dataclass(frozen=True, kw_only=True)
class SettingsReader(Generic[S]):
    """Reads a command's settings again: the same flags and variables, and the files as they are now.

    Attributes:
        command: where the command is, such as `newswire.cli.serve:serve`, because a command can't be pickled.
        of: its settings.
        arguments: what it was called with.
        file: the file that it began with; without it, its settings would silently be the defaults.
        fixed: settings that the server has found out by itself.
    """

    command: str
    of: type[S]
    arguments: Sequence[str]
    file: Path | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> S:
        """See `newswire.serving.reload.Again`."""
        if self.file is not None and not self.file.is_file():
            raise click.ClickException(f"{self.file} is not there any more: the server began with it")
        command: click.Command = pkgutil.resolve_name(self.command)
        with command.make_context(command.name, list(self.arguments)) as context:
            return replace(settings_of(context, self.of)[0], **self.fixed)


class ServingCommand(click.Command):
    """A command that knows what it was called with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


def reader_of(command: str, of: type[S]) -> SettingsReader[S]:
    """What reads the settings of the command that runs now again; the command is a `ServingCommand`."""
    meta = click.get_current_context().meta
    return SettingsReader(command=command, of=of, arguments=meta[_ARGUMENTS], file=meta[_FOUND])


def settings_of(context: click.Context, of: type[S]) -> tuple[S, dict[str, str]]:
    """The settings that a command was called with, and where each came from, by name.

    Args:
        context: of the command.
        of: the settings' dataclass.

    Raises:
        click.ClickException: they can't be used together.
    """
    by_name = {one.name: one for one in fields(of)}
    sources = {name: _source(context, one, of) for name, one in by_name.items()}
    try:
        return of(**{name: context.params[name] for name in by_name if sources[name] != "default"}), sources
    except InvalidSetting as error:
        source = sources[error.setting].replace("default", flag_of(by_name[error.setting]))
        why = str(error).removeprefix(f"{error.source}: ")
        _refuse(source, error.setting, error.value, error.allowed, why)


class _Setting(click.Option):
    """One setting as an option: its type reads the value, wherever click found it."""

    def __init__(self, names: Sequence[str], *, one: Field[Any], of: type[ServerSettings], **more: Any) -> None:
        kind = type_of(one)
        switch = isinstance(one.default, bool)
        super().__init__(
            names,
            help=one.metadata["help"] + ("" if switch else f" [{kind.show(one.default)}]"),
            metavar=None if switch else kind.metavar,
            multiple=kind.several is not None,
            is_flag=switch,
            default=None,
            envvar=of.variable(one.name),
            **more,
        )
        self._one = one
        self._of = of

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """The variable's text, whole."""
        return self.resolve_envvar_value(ctx)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Read a value.

        Raises:
            click.ClickException: it can't be used.
        """
        kind, name = type_of(self._one), self._one.name
        source = _source(ctx, self._one, self._of)
        if source == "default" or value is None:
            return None
        given = value if isinstance(value, list | tuple) else (value,)
        if kind.several and any(isinstance(each, str) and not each.strip() for each in given):
            _refuse(source, name, "", kind.allowed)  # a variable of the shell, perhaps, that was not set
        if kind.several and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = kind.several.join(value)
        try:
            return kind.read(value)
        except (InvalidChannel, RefusedValue) as error:
            table = isinstance(value, Mapping)  # the error says more than the text of the whole
            why = str(error) if table else f"{str(value)[:100]!r} can't be used: {error}. Give {kind.allowed}"
            _refuse(source, name, value, kind.allowed, why)
        except (ValueError, TypeError, AttributeError, KeyError):
            _refuse(source, name, value, kind.allowed + self._hint(value))

    def _hint(self, value: Any) -> str:
        if self._one.name == "port" and str(value).startswith("tcp://"):
            service = "-".join(filter(None, ("newswire", self._of.section)))
            return (
                f" (Kubernetes sets {self.envvar} for a service named {service!r}: give --port, or set "
                "enableServiceLinks: false)"
            )
        return ""


def _source(context: click.Context, one: Field[Any], of: type[ServerSettings]) -> str:
    """Where a setting comes from, in words."""
    match context.get_parameter_source(one.name):
        case ParameterSource.COMMANDLINE:
            return flag_of(one)
        case ParameterSource.ENVIRONMENT:
            return of.variable(one.name)
        case ParameterSource.DEFAULT_MAP:
            return str(context.meta[_PLACES][one.name])
        case _:
            return "default"


def _refuse(source: str, name: str, value: Any, allowed: str, why: str | None = None) -> NoReturn:
    text = str(InvalidSetting(source, name, value, allowed, why=why))
    raise click.ClickException(printable(without_userinfo(text))) from None


def _configure(
    of: type[ServerSettings],
    plain: type[ServerSettings] | None,
    context: click.Context,
    parameter: click.Parameter,
    file: Path | None,
) -> None:
    """Read the file into the context's default map, and look for names that no setting has."""
    if file is None and Path(FILE).is_file():
        file = Path(FILE)
    context.meta[_FOUND] = file
    table = {} if file is None else _read(file)
    top = {key: value for key, value in table.items() if key not in SECTIONS}
    found = table.get(of.section, {}) if of.section else top
    if not isinstance(found, Mapping):
        why = f"{of.section} is a table: write [{of.section}], and its settings below"
        _refuse(f"{file}", of.section, found, f"a table, [{of.section}]", why)
    places = context.meta[_PLACES] = {}
    context.default_map = {}
    for owner, where, keys in ((of, f"[{of.section}] " if of.section else "", found), (plain, "", top)):
        if owner is None:
            continue
        for key, value in keys.items():
            name, place = key.replace("-", "_"), f"{file}, {where}{key}"
            slip = _slip(name, owner, of, lambda known: known)
            if slip is not None and isinstance(value, Mapping) and not owner.section:
                slip = f"the settings of `newswire serve` stand at the top of the file, without [{key[:60]}] above them"
            if slip is not None:
                _refuse(place, name[:60], value, "a setting", f"{name[:60]!r} is not a setting here; {slip}")
            if owner is of:
                context.default_map[name], places[name] = value, place
    for variable in os.environ:
        section = next((one for one in SECTIONS if variable.startswith(f"NEWSWIRE_{one.upper()}_")), "")
        owner = of if section == of.section else None if section else plain
        if owner is None or variable in _NOT_SETTINGS or not variable.startswith("NEWSWIRE_"):
            continue
        name = variable.removeprefix(owner.variable("") + "_").lower()
        slip = None if _OF_KUBERNETES.fullmatch(name) else _slip(name, owner, of, owner.variable)
        if slip is not None:
            say(f"{variable} is not read: {slip}")


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))  # some editors begin a file with a byte order mark
    except OSError as error:
        why = f"{file} can't be read: {(error.strerror or str(error)).lower()}"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        why = f"{file} is no TOML file: {error}"
    except RecursionError:
        why = f"{file} is no TOML file: it is nested too deeply"
    _refuse("--config", "config", file, "the path of a TOML file", why)


def _slip(name: str, owner: type[ServerSettings], of: type[ServerSettings], shown: Callable[[str], str]) -> str | None:
    """What to write instead of a name that is no setting of `owner`; None if it is one."""
    names = [one.name for one in fields(owner)]
    if name in names:
        return None
    for other in (of, *_elsewhere()):
        if other.section and name in [one.name for one in fields(other)]:
            section = other.section
            return f"it is one of `newswire {section}`: write {name} below [{section}], or {other.variable(name)}"
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {shown(near[0])}?" if near else "no setting has this name"


def _elsewhere() -> Iterator[type[ServerSettings]]:
    """The settings of the commands that have a section, as far as what they need is installed."""
    for section in SECTIONS:
        with contextlib.suppress(ModuleNotFoundError):
            yield pkgutil.resolve_name(f"newswire.{section}.settings:{section.title()}Settings")


def _show(settings: ServerSettings, sources: Mapping[str, str]) -> None:
    values = {one.name: type_of(one).show(getattr(settings, one.name)) for one in fields(settings)}
    wide = max(map(len, values))
    long = max(len(value) for value in values.values() if len(value) <= 40)
    for name, value in values.items():
        source = sources[name]
        style = {"dim": True} if source == "default" else {"fg": "green"}
        click.echo(f"{name:{wide}}  {without_userinfo(value):{long}}  " + click.style(source, **style))
