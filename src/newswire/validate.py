"""Checks of options and arguments: whatever refuses a number, a flag or a group of options does it in the same words.

What is no number in any order (NaN) is refused too: a timer of that length would never end, or end at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeGuard, TypeVar

from newswire.redact import without_userinfo

K = TypeVar("K")

OFF: Final = "to switch it off"
"""What None is for, with most limits."""


def check_positive(options: object, *names: str, none: str = "", whole: bool = False) -> None:
    """Check that attributes are greater than 0.

    Args:
        options: what has them.
        names: of the attributes.
        none: what None is for, such as `for no limit`; empty: None is refused too.
        whole: they are integers.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        check_greater_than_0(name, getattr(options, name), none=none, whole=whole)


def check_greater_than_0(name: str, value: object, *, none: str = "", whole: bool = False) -> None:
    """Check one number; see `check_positive`.

    Raises:
        ValueError: it is not greater than 0.
    """
    if value is None and none:
        return
    if not (is_number(value) and value > 0 and (is_whole(value) or not whole)):
        kind = "a whole number" if whole else "a number"
        raise ValueError(
            f"{name} must be {kind} greater than 0{f' (or None {none})' if none else ''}, not {shown(value)}"
        )


def check_not_negative(options: object, what: str, *names: str, none: bool = False, whole: bool = False) -> None:
    """Check that attributes are 0 or more.

    Args:
        options: what has them.
        what: what they are a number of: `seconds`.
        names: of the attributes.
        none: None is allowed.
        whole: they are integers.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        value = getattr(options, name)
        if value is None and none:
            continue
        if not ((is_whole(value) if whole else is_number(value)) and value >= 0):
            raise ValueError(f"{name} is a {'whole ' * whole}number of {what}, 0 or more, not {shown(value)}")


def check_flags(options: object, *names: str) -> None:
    """Check that attributes are True or False: a text such as `false` would count as True.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        check_flag(name, getattr(options, name))


def check_flag(name: str, value: object) -> None:
    """Check one argument that is True or False.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} is True or False, not {shown(value)}")


def check_callables(options: object, *names: str) -> None:
    """Check that attributes are plain functions, or None.

    Raises:
        TypeError: one is not.
    """
    for name in names:
        value = getattr(options, name)
        if not (value is None or callable(value)):
            raise TypeError(f"{name} is a function that newswire calls, not {shown(value)}")
        check_plain(name, value)


def check_plain(name: str, value: object) -> None:
    """Check that an argument is no async function, which nothing would await.

    Raises:
        TypeError: it is one.
    """
    if callable(value):
        import inspect  # late: it takes time, and most programs give no function

        if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004
            raise TypeError(f"{name} is a plain function, not an async one: nothing would await what it returns")


def check_seconds(name: str, value: object) -> None:
    """Check an argument that says how long to wait; None is allowed. Less than 0 counts as 0, as for Python's own.

    Raises:
        ValueError: it is no number.
    """
    if value is not None and not (is_number(value) and value == value):
        raise ValueError(f"{name} is a number of seconds, not {shown(value)}")


def check_kind(name: str, value: object, kind: type) -> None:
    """Check that an argument is of a class.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise TypeError(f"{name} is {article} {kind.__name__}, not {shown(value)}")


def check_list(name: str, value: object) -> None:
    """Check that an argument has several values: one text alone would be a list of its characters.

    Raises:
        TypeError: it is a single text, or no iterable at all.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is a list, not {shown(value)}")


def options_or(name: str, value: K | None, kind: type[K]) -> K:
    """Options that were given as an argument, or the default ones instead of None.

    Raises:
        TypeError: it is something else.
    """
    if value is None:
        return kind()
    check_kind(name, value, kind)
    return value


def shown(value: object) -> str:
    """A value for the message of an error: what is long is cut, and no password of a URL is in it."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return without_userinfo(repr(value))[:60]


def check_secret(name: str, value: object) -> None:
    """Check that an argument that no message may show is a text.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} is a str, not {type(value).__name__}")


def is_number(value: object) -> TypeGuard[float]:
    """False for a text such as `7d`, which the command line would understand, and for True and False."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is an integer; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)
