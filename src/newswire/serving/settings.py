"""Where a server's settings come from: a flag, else the environment, else a TOML file, else the default.

Each setting is a field of a dataclass with its kind and its help, and from these come the flags of the command, the
environment, the file and `--show-config`. What can't be used is refused with its source, its name and what is allowed;
an unknown name is refused too, so that a slip of the pen is never a setting that silently does nothing. Only in the
environment, where others may have set it, it is a warning.

`newswire serve` has the plain names (`NEWSWIRE_PORT`, `port` in the file), any other command a section: `newswire
relay` has `NEWSWIRE_RELAY_PORT`, and `port` below `[relay]`.
"""

from __future__ import annotations

import difflib
import logging
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from newswire.errors import InvalidChannel, InvalidSetting
from newswire.log.base import Retention
from newswire.log.open import open_log
from newswire.serving import option_types as values
from newswire.serving.option_types import Kind

logger = logging.getLogger("newswire.server")

S = TypeVar("S", bound="ServerSettings")

FILE: Final = "newswire.toml"
SECTIONS: Final = ("relay",)
_PREFIX: Final = "NEWSWIRE_"
# Other variables of ours.
_NOT_SETTINGS: Final = re.compile(rf"NEWSWIRE_(URL|CONFIG|RUN|({'|'.join(SECTIONS).upper()})_.*)")
# Those that Kubernetes sets in every pod beside a service named "newswire", or "newswire-relay".
_OF_KUBERNETES: Final = re.compile(r"(SERVICE|PORT)_.*")


def setting(default: Any, kind: Kind, help: str) -> Any:
    """A field of settings."""
    metadata = {"kind": kind, "help": help}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What every server has. Times are in seconds; None switches a limit off."""

    log: str = setting(
        "sqlite:///newswire.db", values.text("the URL of a log: sqlite:///path.db or memory://"), "The log's URL."
    )
    host: str = setting("127.0.0.1", values.text("an address or a host name"), "The address to listen on.")
    port: int = setting(8000, values.number(0, 65535), "The port to listen on; 0 takes a free one.")
    workers: int = setting(1, values.number(1, 512), "Processes; they share the log and the port.")
    insecure: bool = setting(
        False, values.switch(), "Listen on a public address although nobody is asked who they are."
    )
    cors_origins: tuple[str, ...] = setting(
        (), values.origins(), "Web pages of these origins may come too; '*' for all."
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        values.hosts(),
        "Answer to these names too, beside localhost and the address to listen on; '*' for all. Repeatable.",
    )
    heartbeat: float | None = setting(
        15.0, values.duration(optional=True), "A stream that is silent for so long gets a comment."
    )
    grace: float = setting(10.0, values.duration(), "What streams are given to end when the server stops.")
    access_log: bool = setting(False, values.switch(), "Write a line for each request.")

    def __post_init__(self) -> None:
        try:
            open_log(self.log, retention=self.kept)
        except ValueError as error:
            raise InvalidSetting("settings", "log", self.log, "the URL of a log", why=str(error)) from None
        if self.workers > 1 and self.log.startswith("memory:"):
            why = (
                f"{self.workers} processes can't share a log in memory, each would have its own: use "
                "sqlite:///newswire.db, or one process"
            )
            raise InvalidSetting("settings", "workers", self.workers, "1", why=why)

    @property
    def kept(self) -> Mapping[str, Retention] | None:
        """What the log keeps, by channel pattern; None: see `newswire.open_log`."""
        return None


class Section(Generic[S]):
    """The settings of one command.

    Args:
        of: their dataclass.
        name: of their table in the file, one of `SECTIONS`; None: they have the plain names.
        plain: the section that has the plain names, whose names this one's reading checks too.

    Attributes:
        fields: of the dataclass, by name.
    """

    def __init__(self, of: type[S], name: str | None = None, plain: Section[Any] | None = None) -> None:
        self.fields: Mapping[str, Field[Any]] = {one.name: one for one in fields(of)}
        self._of = of
        self._name = name
        self._plain = plain
        self._prefix = _PREFIX if name is None else f"{_PREFIX}{name.upper()}_"

    def load(
        self,
        flags: Mapping[str, Any],
        environment: Mapping[str, str],
        file: Path | None,
        warn: Callable[[str], None] = logger.warning,
    ) -> tuple[S, dict[str, str]]:
        """Read the settings.

        Args:
            flags: by name of the setting; None (or an empty tuple) was not given.
            environment: `os.environ`.
            file: a TOML file; None for none.
            warn: called with a sentence for each variable that looks like a setting and is none. It may belong to
                something else, so it stops nothing.

        Returns:
            the settings, and where each came from, by name.

        Raises:
            InvalidSetting: one can't be used, or a flag or a key of the file is unknown.
        """
        table = _read(file)
        found: dict[str, tuple[str, Any]] = {}
        for source in (self._in_file(file, table), self._in_environment(environment, warn), self._in_flags(flags)):
            for name, where, value in source:
                self._check(name, where, value)
                found[name] = where, value
        if self._plain is not None:
            for name, where, value in self._plain._in_file(file, table):
                if name in self.fields and name not in self._plain.fields:
                    raise InvalidSetting(where, name, value, self._place(name), why=self._elsewhere(name))
                self._plain._check(name, where, value)
            for _ in self._plain._in_environment(environment, warn, beside=self):
                pass  # its warnings are wanted
        read: dict[str, Any] = {}
        for name, (where, value) in found.items():
            kind = kind_of(self.fields[name])
            try:
                read[name] = kind.read(value)
            except (InvalidChannel, values.Refused) as error:
                why = f"{str(value)[:100]!r} can't be used: {error}. Give {kind.allowed}"
                raise InvalidSetting(where, name, value, kind.allowed, why=why) from None
            except (ValueError, TypeError, AttributeError, KeyError):
                raise InvalidSetting(where, name, value, kind.allowed + self._hint(name, value)) from None
        try:
            settings = self._of(**read)
        except InvalidSetting as error:
            where = found.get(error.setting, ("", None))[0] or flag_of(self.fields[error.setting])
            why = str(error).removeprefix(f"{error.source}: ")
            raise InvalidSetting(where, error.setting, error.value, error.allowed, why=why) from None
        return settings, {name: found[name][0] if name in found else "default" for name in self.fields}

    def show(self, settings: S, sources: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
        """Each setting's name, its value as text that can be given back, and where it came from."""
        for name, one in self.fields.items():
            yield name, kind_of(one).show(getattr(settings, name)), sources[name]

    def variable(self, name: str) -> str:
        """A setting's variable of the environment."""
        return self._prefix + name.upper()

    def _in_flags(self, flags: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
        for name, value in flags.items():
            where = flag_of(self.fields[name]) if name in self.fields else name
            if isinstance(value, tuple):
                value = (kind_of(self.fields[name]).several or "").join(value)
            if value not in (None, ""):
                yield name, where, value

    def _in_environment(
        self, environment: Mapping[str, str], warn: Callable[[str], None], beside: Section[Any] | None = None
    ) -> Iterator[tuple[str, str, str]]:
        for variable, value in environment.items():
            name = variable.removeprefix(self._prefix)
            if name == variable or _OF_KUBERNETES.fullmatch(name):
                continue
            if self._name is None and _NOT_SETTINGS.fullmatch(variable):
                continue
            name = name.lower()
            if name in self.fields:
                yield name, variable, value
            elif beside is not None and name in beside.fields:
                warn(f"{variable} is not read: {beside._elsewhere(name)}")
            else:
                near = difflib.get_close_matches(name, self.fields, 1)
                hint = f"did you mean {self.variable(near[0])}?" if near else "no setting has this name"
                warn(f"{variable} is not read: {hint}")

    def _place(self, name: str) -> str:
        return f"{name} below [{self._name}], or {self.variable(name)}"

    def _elsewhere(self, name: str) -> str:
        return f"{name} is a setting of `newswire {self._name}`: write {self._place(name)}"

    def _in_file(self, file: Path | None, table: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
        place = f"{file}, "
        if self._name is not None:
            place, below = f"{file}, [{self._name}] ", table.get(self._name, {})
            if not isinstance(below, Mapping):
                why = f"{self._name} is a table: write [{self._name}], and its settings below"
                raise InvalidSetting(f"{file}", self._name, below, f"a table, [{self._name}]", why=why)
            table = below
        for key, value in table.items():
            if self._name is not None or key not in SECTIONS:
                yield key.replace("-", "_"), place + key, value

    def _check(self, name: str, where: str, value: Any) -> None:
        if name not in self.fields:
            near = difflib.get_close_matches(name, self.fields, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.fields)}"
            why = f"{name[:60]!r} is not a setting; {hint}"
            raise InvalidSetting(where, name[:60], value, ", ".join(self.fields), why=why)

    def _hint(self, name: str, value: Any) -> str:
        if name == "port" and str(value).startswith("tcp://"):
            service = self._prefix.lower().strip("_").replace("_", "-")
            return (
                f" (Kubernetes sets {self.variable(name)} for a service named {service!r}: give --port, or set "
                "enableServiceLinks: false)"
            )
        return ""


def kind_of(one: Field[Any]) -> Kind:
    """The kind of a setting."""
    kind = one.metadata["kind"]
    assert isinstance(kind, Kind)
    return kind


def default_of(one: Field[Any]) -> str:
    """A setting's default, as text."""
    return kind_of(one).show(one.default_factory() if one.default_factory is not MISSING else one.default)


def flag_of(one: Field[Any]) -> str:
    """A setting's flag. What may be given several times is said one by one: `upstreams` are `--upstream`."""
    name = one.name.removesuffix("s") if kind_of(one).several else one.name
    return "--" + name.replace("_", "-")


def _read(file: Path | None) -> Mapping[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        why = f"{file} can't be read: {(error.strerror or str(error)).lower()}"
        raise InvalidSetting("--config", "config", file, "the path of a TOML file", why=why) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        why = f"{file} is no TOML file: {error}"
        raise InvalidSetting("--config", "config", file, "the path of a TOML file", why=why) from None
