"""Where a server's settings come from: a flag, else the environment, else a TOML file, else the default.

Each setting is a field of a dataclass with its kind and its help, and from these come the flags of the command, the
environment, the file and `--show-config`. What can't be used is refused with its source, its name and what is allowed;
an unknown name is refused too, so that a slip of the pen is never a setting that silently does nothing.

`newswire serve` has the plain names (`NEWSWIRE_PORT`, `port` in the file), any other command a section: `newswire
relay` has `NEWSWIRE_RELAY_PORT`, and `port` below `[relay]`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from newswire.errors import InvalidChannel, InvalidSetting
from newswire.log.base import Retention
from newswire.log.open import open_log
from newswire.server import values
from newswire.server.values import Kind

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
            open_log(self.log, retention=self.kept or None)
        except ValueError as error:
            raise InvalidSetting("settings", "log", self.log, f"the URL of a log ({error})") from None
        if self.workers > 1 and self.log.startswith("memory:"):
            allowed = "1 with a log in memory, which each process would have to itself: use sqlite:///newswire.db"
            raise InvalidSetting("settings", "workers", self.workers, allowed)

    @property
    def kept(self) -> Mapping[str, Retention]:
        """What the log keeps, by channel pattern; none: everything."""
        return {}


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
        self, flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None
    ) -> tuple[S, dict[str, str]]:
        """Read the settings.

        Args:
            flags: by name of the setting; None (or an empty tuple) was not given.
            environment: `os.environ`.
            file: a TOML file; None for none.

        Returns:
            the settings, and where each came from, by name.

        Raises:
            InvalidSetting: one can't be used, or is unknown.
        """
        table = _read(file)
        found: dict[str, tuple[str, Any]] = {}
        for source in (self._in_file(file, table), self._in_environment(environment), self._in_flags(flags)):
            for name, where, value in source:
                self._check(name, where, value)
                found[name] = where, value
        if self._plain is not None:
            self._check_beside(
                self._plain, [*self._plain._in_file(file, table), *self._plain._in_environment(environment)]
            )
        read: dict[str, Any] = {}
        for name, (where, value) in found.items():
            kind = kind_of(self.fields[name])
            try:
                read[name] = kind.read(value)
            except (InvalidChannel, values.Refused) as error:
                raise InvalidSetting(where, name, value, f"{kind.allowed} ({error})") from None
            except (ValueError, TypeError, AttributeError, KeyError):
                raise InvalidSetting(where, name, value, kind.allowed + self._hint(name, value)) from None
        try:
            settings = self._of(**read)
        except InvalidSetting as error:
            where = found.get(error.setting, ("the default", None))[0]
            raise InvalidSetting(where, error.setting, error.value, error.allowed) from None
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

    def _in_environment(self, environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
        for variable, value in environment.items():
            name = variable.removeprefix(self._prefix)
            if name == variable or _OF_KUBERNETES.fullmatch(name):
                continue
            if self._name is not None or not _NOT_SETTINGS.fullmatch(variable):
                yield name.lower(), variable, value

    def _in_file(self, file: Path | None, table: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
        place = f"{file}, "
        if self._name is not None:
            place, table = f"{file}, [{self._name}] ", table.get(self._name, {})
            if not isinstance(table, Mapping):
                raise InvalidSetting(f"{file}", self._name, table, f"a table: [{self._name}]")
        for key, value in table.items():
            if self._name is not None or key not in SECTIONS:
                yield key.replace("-", "_"), place + key, value

    def _check(self, name: str, where: str, value: Any) -> None:
        if name not in self.fields:
            near = difflib.get_close_matches(name, self.fields, 1)
            allowed = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.fields)}"
            raise InvalidSetting(where, name[:60], value, f"not a setting; {allowed}")

    def _check_beside(self, plain: Section[Any], found: Iterable[tuple[str, str, Any]]) -> None:
        """Refuse plain names that are nobody's, or this section's own."""
        for name, where, value in found:
            if name in self.fields and name not in plain.fields:
                allowed = f"a setting of {self._name}: write it below [{self._name}], or as {self.variable(name)}"
                raise InvalidSetting(where, name, value, allowed)
            plain._check(name, where, value)

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
        allowed = f"the path of a TOML file that can be read ({error.strerror})"
        raise InvalidSetting("--config", "config", file, allowed) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting("--config", "config", file, f"a TOML file ({error})") from None
