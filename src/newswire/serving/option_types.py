"""The types of settings: how to read a value, how to show it, and what to say about a wrong one.

A type never looks at where a value came from: it says what is allowed, and `newswire.cli.settings` says where the
mistake is.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from newswire.errors import InvalidChannel
from newswire.log.channels import check_pattern
from newswire.log.retention import Retention
from newswire.validate import OFF, check_positive

T = TypeVar("T")

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_AMOUNT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*)", re.ASCII)
_NOTHING: Final = frozenset({"none", "off"})
_DEFAULT: Final = "default"
_SWITCH: Final = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


class RefusedValue(ValueError):
    """A value that can't be used, for a reason that `allowed` does not say by itself."""


@dataclass(frozen=True, slots=True)
class OptionType:
    """A type of values.

    Attributes:
        allowed: what may be given, in words; the end of an error message.
        read: from text, or from what TOML has, to the value; raises ValueError or TypeError for anything else.
        show: from the value to text that `read` reads back.
        metavar: what stands for it in a command's help.
        several: what stands between several of it in one text; None: there is only one.
    """

    allowed: str
    read: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    metavar: str = "TEXT"
    several: str | None = None


def text(allowed: str, *choices: str) -> OptionType:
    """Some text; one of `choices` if there are any."""

    def read(value: Any) -> str:
        good = isinstance(value, str) and value and (not choices or value in choices)
        return str(value) if good else _wrong(value)

    return OptionType(allowed, read, metavar="|".join(choices) if choices else "TEXT")


def secret() -> OptionType:
    """Some text that is never shown, or nothing."""
    kind = optional(text("a secret that only the servers and the makers of tokens know"))
    return replace(kind, show=lambda value: "none" if value is None else "(set)", metavar="SECRET")


def header_secret() -> OptionType:
    """A secret that comes in a header: what clients send there is ASCII, and blanks around it are no part of it."""
    form = re.compile(r"[!-~]([ -~]*[!-~])?")

    def read(value: Any) -> Any:
        found = kind.read(value)
        return found if found is None or form.fullmatch(found) else _wrong(value)

    kind = secret()
    return replace(kind, allowed="a secret of ASCII characters, without blanks around it, or 'none'", read=read)


def cookie_name() -> OptionType:
    """The name of a cookie (RFC 6265, section 4.1.1)."""
    form = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

    def read(value: Any) -> Any:
        return value if isinstance(value, str) and form.fullmatch(value) else _wrong(value)

    return OptionType("the name of a cookie, which begins with __Host- where pages come over HTTPS", read)


def optional(kind: OptionType) -> OptionType:
    """Of a kind, or nothing, which is shown as `none`."""

    def read(value: Any) -> Any:
        return None if _is_nothing(value) else kind.read(value)

    def show(value: Any) -> str:
        return "none" if value is None else kind.show(value)

    return replace(kind, allowed=f"{kind.allowed}, or 'none'", read=read, show=show)


def number(low: int, high: int) -> OptionType:
    """A whole number from `low` to `high`."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise TypeError(value)
        if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
            raise ValueError(value)
        if not low <= int(value) <= high:
            raise ValueError(value)
        return int(value)

    return OptionType(f"a whole number from {low:,} to {high:,}", read, metavar="N")


def duration(*, optional: bool = False, least: float = 0.0) -> OptionType:
    """A time in seconds, more than 0, and not less than `least`: a number, or one with a unit."""

    def read(value: Any) -> float | None:
        if optional and _is_nothing(value):
            return None
        seconds = _positive(_amount(value, _SECONDS))
        return seconds if seconds >= least else _wrong(value)

    limit = f"{least:g} or more" if least else "greater than 0"
    words = f"a time such as 15, '15s', '10m', '2h' or '7d', {limit}" + (", or 'none'" if optional else "")
    return OptionType(words, read, _show_duration, metavar="TIME")


def size(low: int, high: int) -> OptionType:
    """A number of bytes, from `low` to `high`."""

    def read(value: Any) -> int:
        amount = _amount(value, _BYTES)
        if not low <= amount <= high or amount != int(amount):
            raise ValueError(value)
        return int(amount)

    return OptionType(
        f"a size such as 65536, '64KiB' or '1MiB', from {_show_size(low)} to {_show_size(high)}",
        read,
        _show_size,
        metavar="SIZE",
    )


def switch() -> OptionType:
    """On or off."""

    def read(value: Any) -> bool:
        return value if isinstance(value, bool) else _SWITCH[value.lower()]

    return OptionType("true or false", read, lambda value: "true" if value else "false", metavar="true|false")


def several(allowed: str, metavar: str, one: Callable[[str], Any], show: Callable[[Any], str] = str) -> OptionType:
    """Several values of one form, as a tuple: in one text with commas or spaces between, or as a list.

    Args:
        allowed: see `OptionType`.
        metavar: see `OptionType`.
        one: reads one of them; raises ValueError.
        show: the opposite.
    """

    def read(value: Any) -> tuple[Any, ...]:
        if _is_nothing(value):
            return ()
        parts = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
        return tuple(one(part) for part in parts if part)

    return OptionType(allowed, read, lambda found: ", ".join(map(show, found)) or "none", metavar, several=", ")


def matching(pattern: str) -> Callable[[str], str]:
    """Text in lower case that matches a pattern as a whole."""
    form = re.compile(pattern, re.ASCII)

    def read(text: str) -> str:
        return text.lower() if form.fullmatch(text.lower()) else _wrong(text)

    return read


def origins() -> OptionType:
    """Origins of web pages: `https://example.org`, several with commas between; or `*`."""
    return several(
        "origins such as https://example.org (no path, no final slash), commas between several; '*' for all; or 'none'",
        "ORIGIN",
        matching(r"\*|[a-z][a-z0-9+.-]*://[^\s/,*?#@]+"),
    )


def hosts() -> OptionType:
    """Names that a server answers to: `news.example.org`, `*.example.org`, 192.0.2.1, `[2001:db8::1]`; or `*`."""
    read = matching(r"(\*\.)?[^\s/:*?#@\[\]]+|\*|\[?[0-9a-f:.]+\]?")
    allowed = (
        "names such as news.example.org or *.example.org (no scheme, no port), commas between several; '*' for all; "
        "or 'none'"
    )
    return several(allowed, "NAME", lambda text: read(text.rstrip(".")))


def patterns() -> OptionType:
    """Channel patterns: `public.>`, several with commas between."""

    def read(text: str) -> str:
        try:
            return check_pattern(text)
        except InvalidChannel as error:
            raise RefusedValue(str(error)) from None

    return several("channel patterns such as public.> or news, commas between several, or 'none'", "PATTERN", read)


def files() -> OptionType:
    """Paths of files, several with commas between."""

    def read(value: Any) -> tuple[str, ...]:
        if _is_nothing(value):
            return ()
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(part.strip() for part in parts if part.strip())

    allowed = "the path of a file, commas between several, or 'none'"
    return OptionType(allowed, read, lambda found: ", ".join(found) or "none", "FILE", several=",")


def networks() -> OptionType:
    """Addresses and networks: 10.0.0.1, 10.0.0.0/8, 2001:db8::/32; or `*`."""

    def read(text: str) -> str:
        return text if text == "*" else str(ipaddress.ip_network(text))

    allowed = "addresses or networks such as 10.0.0.1 or 10.0.0.0/8, commas between several, or 'none'"
    return several(allowed, "ADDRESS", read)


def with_mapped(found: Iterable[str]) -> list[str]:
    """Networks, and each IPv4 one as a socket that listens on `::` has it: `::ffff:10.0.0.0/104`; or `*` alone."""
    names = list(found)
    if "*" in names:
        return ["*"]
    old = (each for each in map(ipaddress.ip_network, names) if each.version == 4)
    return names + [f"::ffff:{each.network_address}/{96 + each.prefixlen}" for each in old]


def retention() -> OptionType:
    """Rules of retention by channel pattern: `orders.>:max_age=7d,max_events=1000; >:max_age=1d`."""

    def read(value: Any) -> dict[str, Retention] | None:
        if isinstance(value, str) and value.lower() == _DEFAULT:
            return None
        return _by_pattern("retention", value, _LIMITS, Retention)

    def show(rules: Mapping[str, Retention] | None) -> str:
        return _DEFAULT if rules is None else _as_text(rules, _LIMITS)

    allowed = (
        "rules PATTERN:LIMITS, such as 'orders.>:max_age=7d,max_events=1000' (limits: max_age, max_events, max_bytes; "
        "the first pattern that matches a channel counts; semicolons between several rules), "
        "'none' for everything, or 'default'"
    )
    return OptionType(allowed, read, show, metavar="RULE", several="; ")


@dataclass(frozen=True, slots=True)
class SlowRule:
    """What happens to slow readers of some channels.

    Attributes:
        timeout: seconds after which a reader that takes nothing is cut; None: as the server has it.
        max_behind: see `StreamOptions`.
    """

    timeout: float | None = None
    max_behind: int | None = None

    def __post_init__(self) -> None:
        check_positive(self, "timeout", none="for the server's own")
        check_positive(self, "max_behind", none=OFF, whole=True)


def slow_rules() -> OptionType:
    """Rules for slow readers by channel pattern: `prices.>:max_behind=1000; >:timeout=1m`."""

    def read(value: Any) -> dict[str, SlowRule] | None:
        return _by_pattern("slow", value, _SLOW, SlowRule) or None

    def show(rules: Mapping[str, SlowRule] | None) -> str:
        return _as_text(rules or {}, _SLOW)

    allowed = (
        "rules PATTERN:LIMITS, such as 'prices.>:max_behind=1000,timeout=5s' (limits: max_behind, timeout; the first "
        "pattern that covers all channels of a stream counts; semicolons between several rules), or 'none'"
    )
    return OptionType(allowed, read, show, metavar="RULE", several="; ")


def _by_pattern(setting: str, value: Any, kinds: Mapping[str, OptionType], make: Callable[..., T]) -> dict[str, T]:
    """Rules by channel pattern, from a table or from text.

    Args:
        setting: the setting's name.
        value: the table, or the text.
        kinds: the type of each limit, by its name.
        make: makes a rule of its limits.
    """

    def rule(pattern: str, limits: Any) -> T:
        if not isinstance(limits, Mapping) or not limits:
            raise RefusedValue(_without_limits(setting, pattern, kinds))
        return make(**{name.replace("-", "_"): _limit(pattern, name, one, kinds) for name, one in limits.items()})

    if isinstance(value, Mapping):
        return {check_pattern(pattern): rule(pattern, limits) for pattern, limits in value.items()}
    if _is_nothing(value):
        return {}
    rules: dict[str, T] = {}
    for part in value.split(";"):
        if part.strip():
            pattern, colon, limits = part.strip().rpartition(":")
            if not colon or pattern in rules:
                raise ValueError(part)
            rules[check_pattern(pattern)] = rule(pattern, _pairs(limits))
    return rules


def _without_limits(setting: str, pattern: str, kinds: Mapping[str, OptionType]) -> str:
    """What to write where a table of rules has no limits for a pattern."""
    if pattern.replace("-", "_") in kinds:
        return f'{pattern} is for a pattern of channels: write [{setting}.">"] for all, and {pattern} below it'
    return f'{pattern!r} has no limits: write [{setting}."{pattern}"], and below it {" or ".join(kinds)}'


def _limit(pattern: str, name: str, value: Any, kinds: Mapping[str, OptionType]) -> Any:
    """The value of one limit."""
    kind = kinds.get(name.replace("-", "_"))
    if kind is None:
        raise RefusedValue(f"{name[:60]!r} of {pattern!r} is no limit here: there are {', '.join(kinds)}")
    try:
        return kind.read(value)
    except (ValueError, TypeError, AttributeError, KeyError):
        raise RefusedValue(f"{name} of {pattern!r} can't be {str(value)[:60]!r}: give {kind.allowed}") from None


def _pairs(limits: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in limits.split(",")]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _as_text(rules: Mapping[str, object], kinds: Mapping[str, OptionType]) -> str:
    """Rules by channel pattern, as `_by_pattern` reads them."""

    def limits(rule: object) -> str:
        values = ((name, getattr(rule, name)) for name in kinds)
        return ",".join(f"{name}={kinds[name].show(value)}" for name, value in values if value is not None)

    return "; ".join(f"{pattern}:{limits(rule)}" for pattern, rule in rules.items()) or "none"


def _wrong(value: Any) -> Any:
    raise ValueError(value)


def _is_nothing(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in _NOTHING


def _amount(value: Any, units: Mapping[str, float]) -> float:
    if isinstance(value, bool):
        raise TypeError(value)
    if isinstance(value, (int, float)):
        return float(value)
    match = _AMOUNT.fullmatch(value.strip())
    if match is None:
        raise ValueError(value)
    unit = match[2]
    if not unit:
        return float(match[1])
    return float(match[1]) * (units[unit] if unit in units else units[unit.upper()])


def _positive(value: float) -> float:
    if not 0 < value < 10**10:
        raise ValueError(value)
    return value


def _show_duration(value: float | None) -> str:
    if value is None:
        return "none"
    for unit in ("d", "h", "m"):
        if value >= 2 * _SECONDS[unit] and value % _SECONDS[unit] == 0:
            return f"{value / _SECONDS[unit]:g}{unit}"
    return f"{value:g}s"


def _show_size(value: int) -> str:
    for unit, name in (("GIB", "GiB"), ("MIB", "MiB"), ("KIB", "KiB")):
        if value >= _BYTES[unit] and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{name}"
    return str(value)


_LIMITS: Final = {"max_age": duration(), "max_events": number(1, 10**15), "max_bytes": size(1, 10**15)}
_SLOW: Final = {"timeout": duration(), "max_behind": number(1, 10**15)}
