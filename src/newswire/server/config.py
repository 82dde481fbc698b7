"""The settings of the standalone server: from flags, else `NEWSWIRE_*`, else a TOML file, else the default.

A setting that can't be used is refused with its source, its name and what is allowed; nothing is ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


class BadSetting(ValueError):
    """A setting that can't be used; the message names it, its source and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How `newswire serve` behaves.

    Attributes:
        log: the log's URL.
        host, port: where to listen.
        workers: processes; more than one needs a log that they can share, such as SQLite.
        max_body: bytes of one publish request. 1 MiB is far above what a stream should carry in one event.
        max_channels: channels on one stream.
        max_connections: open streams in one process; more are answered with 503.
        heartbeat, write_timeout: seconds; see `StreamOptions`.
        retry: milliseconds; see `StreamOptions`.
        grace: seconds that streams have to end when the server stops.
        insecure: serve on a public address though nobody is asked who they are.
    """

    log: str = "sqlite:///newswire.db"
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    max_body: int = 2**20
    max_channels: int = 100
    max_connections: int = 50_000
    heartbeat: float = 15.0
    write_timeout: float = 30.0
    retry: int = 3000
    grace: float = 10.0
    insecure: bool = False


def load_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None
) -> tuple[Settings, dict[str, str]]:
    """Read the settings.

    Returns:
        the settings, and where each came from.

    Raises:
        BadSetting: one can't be used.
    """
    values: dict[str, Any] = {}
    sources = {field.name: "default" for field in fields(Settings)}
    in_file = _read_file(file) if file is not None else {}
    known = {field.name: type(field.default) for field in fields(Settings)}
    for name in in_file.keys() - known:
        raise BadSetting(f"{file}: there is no setting {name!r}; there are {', '.join(known)}")
    for name, kind in known.items():
        variable = f"NEWSWIRE_{name.upper()}"
        for source, value in (
            (f"--{name.replace('_', '-')}", flags.get(name)),
            (variable, environment.get(variable)),
            (str(file), in_file.get(name)),
        ):
            if value is not None:
                values[name] = _convert(source, name, value, kind)
                sources[name] = source
                break
    for name in ("workers", "max_body", "max_channels", "max_connections", "heartbeat", "write_timeout", "grace"):
        if name in values and values[name] <= 0:
            raise BadSetting(f"{sources[name]}: {name} must be greater than 0, not {values[name]}")
    return Settings(**values), sources


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise BadSetting(f"{file} can't be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"{file} is no TOML: {error}") from None


def _convert(source: str, name: str, value: Any, kind: type) -> Any:
    if kind is bool:
        text = str(value).lower()
        if text not in ("true", "false", "1", "0"):
            raise BadSetting(f"{source}: {name} is true or false, not {value!r}")
        return text in ("true", "1")
    try:
        return kind(value)
    except (TypeError, ValueError):
        allowed = "a whole number" if kind is int else "a number"
        raise BadSetting(f"{source}: {name} must be {allowed}, not {value!r}") from None
