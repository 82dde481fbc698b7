"""From a URL to a log. Backends are imported here, late, so that nobody pays for those not in use."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from newswire.log.base import Log, RetentionRules


def open_log(url: str, *, retention: RetentionRules = None, **options: Any) -> Log:
    """Make the log that `url` names. It opens itself at its first call.

    Args:
        url: `memory://`; `sqlite:///relative.db`, `sqlite:////absolute/path.db`, with `?synchronous=NORMAL` for
            speed at the price of the last few events in a power cut.
        retention: what to keep.
        options: keyword arguments of the backend's class; they go before those in the URL.

    Raises:
        ValueError: the URL names no backend, or an option it does not have.
    """
    parts = urlsplit(url)
    options = {**dict(parse_qsl(parts.query)), **options}
    if parts.scheme == "memory":
        from newswire.log.memory import MemoryLog

        if "max_bytes" in options:
            options["max_bytes"] = int(options["max_bytes"])
        return MemoryLog(retention=retention, **_known(options, {"max_bytes"}, "memory"))
    if parts.scheme == "sqlite":
        from newswire.log.sqlite import SqliteLog

        path = unquote(parts.path).removeprefix("/")
        if parts.netloc or not path:
            raise ValueError(f"{url!r} names no file: write sqlite:///relative.db or sqlite:////absolute/path.db")
        return SqliteLog(path, retention=retention, **_known(options, {"synchronous"}, "sqlite"))
    raise ValueError(f"no log for {parts.scheme or url!r}: this version has memory:// and sqlite:///path.db")


def _known(options: dict[str, Any], known: set[str], backend: str) -> dict[str, Any]:
    unknown = options.keys() - known
    if unknown:
        raise ValueError(f"a {backend} log has no option {min(unknown)!r}; it has {', '.join(sorted(known))}")
    return options
