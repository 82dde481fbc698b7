"""From a URL to a log. Backends are imported here, late, so that nobody pays for those not in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from newswire.log.log import Log
from newswire.log.retention import DEFAULT_RETENTION, RetentionRules

_SCHEMES: Final = "memory://, sqlite:///relative.db, sqlite:////absolute/path.db, redis://host:6379/0"
_REDIS: Final = frozenset({"redis", "rediss", "valkey", "valkeys"})
_PLANNED: Final = frozenset({"nats", "tls", "postgres", "postgresql"})


def open_log(url: str, *, retention: RetentionRules = None, **options: Any) -> Log:
    """Make the log that `url` names. It opens itself at its first call.

    Args:
        url: `memory://`, `sqlite:///relative.db`, `sqlite:////absolute/path.db`, or `redis://user:password@host:6379/0`
            (`rediss://` with TLS; `valkey://` and `valkeys://` are the same). Options as a query:
            `sqlite:///events.db?synchronous=NORMAL&busy_timeout=10`, `memory://?max_bytes=1000000`,
            `redis://host?namespace=shop&timeout=2`.
        retention: what to keep of each channel: one `Retention`, or a mapping from pattern to `Retention` of which the
            first that matches counts; a channel that none matches is kept whole. `Retention()` keeps everything. None:
            a file or a server keeps events for seven days, and the log in memory keeps the newest 64 MiB
            (`max_bytes`). Internal channels (`$…`) are not part of that.
        options: keyword arguments of the backend's class; they go before those in the URL.

    Raises:
        ImportError: the log needs a package that is not installed; the message says which extra brings it.
        ValueError: the URL names no log that this version has, or an option that the log does not have. What it says
            never has a password in it.
    """
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        raise ValueError(f"a log is named by a URL, and this has no scheme; this version knows {_SCHEMES}")
    parts = urlsplit(url)
    if scheme == "memory":
        from newswire.log.memory import MemoryLog

        if parts.netloc or parts.path.strip("/"):
            raise ValueError("memory:// names the log in memory; nothing may follow but options")
        return MemoryLog(retention=retention, **_options(scheme, parts.query, options, {"max_bytes": int}))
    if scheme == "sqlite":
        from newswire.log.sqlite import SqliteLog

        path = unquote(parts.path).removeprefix("/")
        if parts.netloc or not path:
            raise ValueError("an SQLite log needs a file: sqlite:///relative.db or sqlite:////absolute/path.db")
        known: dict[str, Callable[[str], Any]] = {"synchronous": str.upper, "busy_timeout": float}
        kept = DEFAULT_RETENTION if retention is None else retention
        return SqliteLog(path, retention=kept, **_options(scheme, parts.query, options, known))
    if scheme in _REDIS:
        try:
            from newswire.log.redis.engine import RedisLog
        except ImportError as error:
            raise ImportError("a redis:// log needs redis-py: pip install 'newswire[redis]'") from error
        own, others = _split(parts.query, {"namespace", "timeout"})
        known = {"namespace": str, "timeout": float}
        kept = DEFAULT_RETENTION if retention is None else retention
        address = urlunsplit(parts._replace(query=others))
        return RedisLog(address, retention=kept, **_options(scheme, own, options, known))
    later = " yet" if scheme in _PLANNED else ""
    raise ValueError(f"this version has no {scheme[:20]}:// log{later}; it knows {_SCHEMES}")


def _split(query: str, names: set[str]) -> tuple[str, str]:
    """A query's parameters that have one of these names, and the others."""
    pairs = parse_qsl(query, keep_blank_values=True)
    own = [pair for pair in pairs if pair[0] in names]
    return urlencode(own), urlencode([pair for pair in pairs if pair[0] not in names])


def _options(scheme: str, query: str, given: dict[str, Any], known: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The options of a URL, as what they are, under those that the caller gave."""
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(f"a {scheme} log has no option {name[:40]!r}; a URL may have {', '.join(sorted(known))}")
        try:
            options[name] = known[name](text)
        except ValueError:
            raise ValueError(f"the {scheme} log's option {name} can't be {text[:40]!r}") from None
    return options | given
