"""From a URL to a log. Backends are imported here, late, so that a process pays only for what it uses."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Container, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from newswire.log.log import Log
from newswire.log.retention import DEFAULT_RETENTION, RetentionRules
from newswire.validate import check_kind

_SCHEMES: Final = (
    "memory://, sqlite:///relative.db, sqlite:////absolute/path.db, redis://host:6379/0, postgresql://host/database, "
    "nats://host:4222, "
    "https://origin.example/"
)
_PATH: Final = re.compile(r"[\w./-]*\w")
# The options that a URL may have, each with the function that reads its text.
_Known: TypeAlias = Mapping[str, Callable[[str], Any]]


def open_log(url: str, *, retention: RetentionRules = None, **options: Any) -> Log:
    """Make the log that `url` names. It opens itself at its first call.

    Args:
        url: `memory://`, `sqlite:///relative.db`, `sqlite:////absolute/path.db`, or `redis://user:password@host:6379/0`
            (`rediss://` with TLS; `valkey://` and `valkeys://` are the same). Options as a query:
            `sqlite:///events.db?synchronous=NORMAL&busy_timeout=10`, `memory://?max_bytes=1000000`,
            `redis://host?namespace=shop&timeout=2`. `nats://user:password@one:4222,two:4222?replicas=3` is a NATS
            server or cluster with JetStream (`tls://` with TLS).
        retention: what to keep of each channel: one `Retention`, or a mapping from pattern to `Retention`, where the
            first that matches counts; a channel that none matches is kept whole. `Retention()` keeps everything. None:
            a file or a server keeps events for seven days, and the log in memory keeps the newest 64 MiB
            (`max_bytes`). Internal channels (`$…`) are not part of that.
        options: keyword arguments of the backend's class; they go before those in the URL.

    Raises:
        ImportError: the log needs a package that is not installed; the message says which extra brings it.
        ValueError: the URL names no log that this version has, or an option that the log does not have. What it says
            never has a password in it.
    """
    check_kind("a log's URL", url, str)
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        meant = _meant(url.removeprefix("sqlite:"))
        raise ValueError(f"a log is named by a URL, and this has no scheme{meant}; this version knows {_SCHEMES}")
    opener = _OPENERS.get(scheme)
    if opener is None:
        raise ValueError(f"this version has no {scheme[:20]}:// log; it knows {_SCHEMES}")
    return opener(scheme, urlsplit(url), retention, options)


def _meant(path: str) -> str:
    """A question, if this is the path of a file or means the memory, and nothing that may have a password."""
    if path.strip(":").lower() == "memory":
        return " (did you mean memory://?)"
    return f" (did you mean sqlite:///{path}?)" if _PATH.fullmatch(path) else ""


def _memory(scheme: str, parts: SplitResult, retention: RetentionRules, options: dict[str, Any]) -> Log:
    from newswire.log.memory import MemoryLog

    if parts.netloc or parts.path.strip("/"):
        raise ValueError("memory:// names the log in memory; nothing may follow but options")
    return MemoryLog(retention=retention, **_options(scheme, parts.query, options, {"max_bytes": int}))


def _sqlite(scheme: str, parts: SplitResult, retention: RetentionRules, options: dict[str, Any]) -> Log:
    from newswire.log.sqlite import SqliteLog

    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        meant = _meant(parts.netloc + parts.path)
        raise ValueError(f"an SQLite log needs a file: sqlite:///relative.db or sqlite:////absolute/path.db{meant}")
    if "\0" in path:
        raise ValueError(f"the path of a file has no NUL, and {path!r:.100} has one")
    known: _Known = {"synchronous": str.upper, "busy_timeout": float}
    return SqliteLog(path, retention=_kept(retention), **_options(scheme, parts.query, options, known))


def _redis(scheme: str, parts: SplitResult, retention: RetentionRules, options: dict[str, Any]) -> Log:
    try:
        from newswire.log.redis.engine import RedisLog
    except ImportError as error:
        raise ImportError("a redis:// log needs redis-py and hiredis: pip install 'newswire[redis]'") from error
    known: _Known = {"namespace": str, "timeout": float, "create": _flag}
    address, own = _split(parts, known)
    return RedisLog(address, retention=_kept(retention), **_options(scheme, own, options, known))


def _postgres(scheme: str, parts: SplitResult, retention: RetentionRules, options: dict[str, Any]) -> Log:
    try:
        from newswire.log.postgres.engine import PostgresLog
    except ImportError as error:
        raise ImportError("a postgresql:// log needs asyncpg: pip install 'newswire[postgres]'") from error
    known: _Known = {
        "schema": str,
        "namespace": str,
        "timeout": float,
        "create": _flag,
        "pooler": _flag,
        "listen": str,
        "poll": float,
    }
    address, own = _split(parts, known)
    return PostgresLog(address, retention=_kept(retention), **_options(scheme, own, options, known))


def _nats(scheme: str, parts: SplitResult, retention: RetentionRules, options: dict[str, Any]) -> Log:
    try:
        from newswire.log.nats.engine import NatsLog
    except ImportError as error:
        raise ImportError(f"a {scheme}:// log needs nats-py: pip install 'newswire[nats]'") from error
    known: _Known = {
        "namespace": str,
        "timeout": float,
        "replicas": int,
        "max_payload": int,
        "creds": str,
        "ca": str,
        "create": _flag,
    }
    address, own = _split(parts, known)
    return NatsLog(address, retention=_kept(retention), **_options(scheme, own, options, known))


def _edge(scheme: str, parts: SplitResult, retention: RetentionRules, options: dict[str, Any]) -> Log:
    """The log of another server. It stands on a higher floor, since it reads with our client: found by its name."""
    try:
        edge_log = importlib.import_module("newswire.edge").EdgeLog
    except ModuleNotFoundError as error:
        raise ImportError(f"an {scheme}:// log needs httpx2: pip install 'newswire[client]'") from error
    if not parts.hostname:
        raise ValueError("the log of another server needs its address: https://origin.example/")
    known: _Known = {"timeout": float, "cache": str}
    address, own = _split(parts, known)
    log: Log = edge_log(address, **_options(scheme, own, options, known))
    return log


# A scheme, and the function that makes its log of a URL: (scheme, parts, retention, options).
_OPENERS: Final[dict[str, Callable[[str, SplitResult, RetentionRules, dict[str, Any]], Log]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "rediss": _redis,
    "valkey": _redis,
    "valkeys": _redis,
    "nats": _nats,
    "tls": _nats,
    "postgres": _postgres,
    "postgresql": _postgres,
    "postgresql+asyncpg": _postgres,  # as SQLAlchemy names it: an application has one URL for both
    "postgresql+psycopg": _postgres,
    "http": _edge,
    "https": _edge,
}


def _kept(retention: RetentionRules) -> RetentionRules:
    """What a file or a server keeps when the caller says nothing."""
    return DEFAULT_RETENTION if retention is None else retention


def _flag(text: str) -> bool:
    """What `1` or `0` in a URL means."""
    if text.lower() not in ("0", "1", "false", "true"):
        raise ValueError(text)
    return text.lower() in ("1", "true")


def _split(parts: SplitResult, own: Container[str]) -> tuple[str, str]:
    """A server's address without newswire's own options, and the query of these options."""
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    address = parts._replace(query=urlencode([pair for pair in pairs if pair[0] not in own]))
    return urlunsplit(address), urlencode([pair for pair in pairs if pair[0] in own])


def _options(scheme: str, query: str, given: dict[str, Any], known: _Known) -> dict[str, Any]:
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
