"""The settings of the standalone server: a flag, else `NEWSWIRE_*`, else a TOML file, else the default.

Each setting is a field of `Settings` with its kind and its help, and from these come the flags of `newswire serve`,
the environment, the file and `--show-config`. What can't be used is refused with its source, its name and what is
allowed; an unknown name is refused too, so that a slip of the pen is never a setting that silently does nothing.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from newswire.errors import InvalidChannel, InvalidSetting
from newswire.hub.options import StreamOptions
from newswire.log.base import Retention
from newswire.log.channels import MAX_CHANNEL_BYTES
from newswire.log.open import open_log
from newswire.server import values
from newswire.server.values import Kind

PREFIX: Final = "NEWSWIRE_"
FILE: Final = "newswire.toml"
# Other variables of ours, and those that Kubernetes sets in every pod beside a service named "newswire".
_NOT_SETTINGS: Final = re.compile(r"NEWSWIRE_(URL|CONFIG|RUN|SERVICE_.*|PORT_.*)")


def _setting(default: Any, kind: Kind, help: str) -> Any:
    metadata = {"kind": kind, "help": help}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How `newswire serve` behaves. Times are in seconds, sizes in bytes; None switches a limit off."""

    log: str = _setting(
        "sqlite:///newswire.db", values.text("the URL of a log: sqlite:///path.db or memory://"), "The log's URL."
    )
    host: str = _setting("127.0.0.1", values.text("an address or a host name"), "The address to listen on.")
    port: int = _setting(8000, values.number(0, 65535), "The port to listen on; 0 takes a free one.")
    workers: int = _setting(1, values.number(1, 512), "Processes; they share the log and the port.")
    insecure: bool = _setting(
        False, values.switch(), "Listen on a public address although nobody is asked who they are."
    )
    cors_origins: tuple[str, ...] = _setting(
        (), values.origins(), "Web pages of these origins may subscribe and publish."
    )
    retention: Mapping[str, Retention] = _setting(
        {}, values.retention(), "What to keep, by channel pattern: 'orders.>:max_age=7d,max_events=1000'."
    )
    max_body: int = _setting(2**20, values.size(1, 64 * 2**20), "The largest body of a publish request.")
    max_batch: int = _setting(10_000, values.number(1, 10**6), "Events in one NDJSON batch.")
    max_channels: int = _setting(100, values.number(1, 10_000), "Channels and patterns on one stream.")
    max_channel_bytes: int = _setting(
        MAX_CHANNEL_BYTES, values.number(1, MAX_CHANNEL_BYTES), "The longest channel name, in bytes of UTF-8."
    )
    max_streams: int = _setting(50_000, values.number(1, 10**7), "Open streams in one process; more get a 503.")
    body_timeout: float = _setting(30.0, values.duration(), "How long a client may take to send a body.")
    heartbeat: float | None = _setting(
        15.0, values.duration(optional=True), "A stream that is silent for so long gets a comment."
    )
    retry: int = _setting(3000, values.number(0, 10**9), "Milliseconds after which a client reconnects (`retry:`).")
    write_timeout: float | None = _setting(
        30.0, values.duration(optional=True), "A client that takes nothing for so long is cut."
    )
    max_age: float | None = _setting(
        None, values.duration(optional=True), "Streams end after so long, with a goodbye; clients come back."
    )
    grace: float = _setting(10.0, values.duration(), "What streams are given to end when the server stops.")
    drain: Literal["goodbye", "drain"] = _setting(
        "goodbye",
        values.text("goodbye or drain", "goodbye", "drain"),
        "On SIGTERM: every stream says goodbye at once, or finite ones may end by themselves first.",
    )
    access_log: bool = _setting(False, values.switch(), "Write a line for each request.")

    def __post_init__(self) -> None:
        try:
            open_log(self.log, retention=self.retention or None)
        except ValueError as error:
            raise InvalidSetting("settings", "log", self.log, f"the URL of a log ({error})") from None
        if self.workers > 1 and self.log.startswith("memory:"):
            allowed = "1 with a log in memory, which each process would have to itself: use sqlite:///newswire.db"
            raise InvalidSetting("settings", "workers", self.workers, allowed)

    @property
    def stream(self) -> StreamOptions:
        """How each stream behaves."""
        return StreamOptions(
            heartbeat=self.heartbeat, retry=self.retry, write_timeout=self.write_timeout, max_age=self.max_age
        )


def load_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None
) -> tuple[Settings, dict[str, str]]:
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
    found: dict[str, tuple[str, Any]] = {}
    for source in (_in_file(file), _in_environment(environment), _in_flags(flags)):
        for name, where, value in source:
            found[name] = where, value
    read: dict[str, Any] = {}
    for name, (where, value) in found.items():
        kind = kind_of(_BY_NAME[name])
        try:
            read[name] = kind.read(value)
        except InvalidChannel as error:
            raise InvalidSetting(where, name, value, f"{kind.allowed} ({error})") from None
        except (ValueError, TypeError, AttributeError, KeyError):
            raise InvalidSetting(where, name, value, kind.allowed + _hint(name, value)) from None
    try:
        settings = Settings(**read)
    except InvalidSetting as error:
        where = found.get(error.setting, ("the default", None))[0]
        raise InvalidSetting(where, error.setting, error.value, error.allowed) from None
    return settings, {name: found[name][0] if name in found else "default" for name in _BY_NAME}


def show_settings(settings: Settings, sources: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Each setting's name, its value as text that can be given back, and where it came from."""
    for one in fields(Settings):
        yield one.name, kind_of(one).show(getattr(settings, one.name)), sources[one.name]


def kind_of(one: Field[Any]) -> Kind:
    """The kind of a field of `Settings`."""
    kind = one.metadata["kind"]
    assert isinstance(kind, Kind)
    return kind


def default_of(one: Field[Any]) -> str:
    """A field's default, as text."""
    return kind_of(one).show(getattr(_DEFAULTS, one.name))


def flag_of(name: str) -> str:
    """A setting's flag."""
    return "--" + name.replace("_", "-")


_DEFAULTS: Final = Settings()
_BY_NAME: Final = {one.name: one for one in fields(Settings)}


def _in_flags(flags: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for name, value in flags.items():
        if isinstance(value, tuple):
            value = "; ".join(value) if name == "retention" else ", ".join(value)
        if value not in (None, ""):
            yield _known(name, flag_of(name), value), flag_of(name), value


def _in_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for variable, value in environment.items():
        if variable.startswith(PREFIX) and not _NOT_SETTINGS.fullmatch(variable):
            yield _known(variable.removeprefix(PREFIX).lower(), variable, value), variable, value


def _in_file(file: Path | None) -> Iterator[tuple[str, str, Any]]:
    if file is None:
        return
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        allowed = f"the path of a TOML file that can be read ({error.strerror})"
        raise InvalidSetting("--config", "config", file, allowed) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting("--config", "config", file, f"a TOML file ({error})") from None
    for key, value in table.items():
        yield _known(key.replace("-", "_"), f"{file}, {key}", value), f"{file}, {key}", value


def _known(name: str, where: str, value: Any) -> str:
    if name not in _BY_NAME:
        near = difflib.get_close_matches(name, _BY_NAME, 1)
        allowed = (
            f"not a setting; did you mean {near[0]}?" if near else f"not a setting; there are {', '.join(_BY_NAME)}"
        )
        raise InvalidSetting(where, name[:60], value, allowed)
    return name


def _hint(name: str, value: Any) -> str:
    if name == "port" and str(value).startswith("tcp://"):
        return (
            " (Kubernetes sets NEWSWIRE_PORT for a service named 'newswire': give --port, or set "
            "enableServiceLinks: false)"
        )
    return ""
