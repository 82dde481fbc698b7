"""Checks of the numbers in options: every dataclass of options that refuses a number does it here, in the same words.

What is no number in any order (NaN) is refused too: a timer of that length would never end, or end at once.
"""

from __future__ import annotations

from typing import Final, TypeGuard

OFF: Final = "to switch it off"
"""What None is for, with most limits."""


def check_positive(options: object, *names: str, none: str = "") -> None:
    """Check that attributes are greater than 0.

    Args:
        options: what has them.
        names: of the attributes.
        none: what None is for, such as `for no limit`; empty: None is refused too.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        value = getattr(options, name)
        if value is None and none:
            continue
        if not (is_number(value) and value > 0):
            raise ValueError(
                f"{name} must be a number greater than 0{f' (or None {none})' if none else ''}, not {value!r}"
            )


def check_not_negative(options: object, what: str, *names: str) -> None:
    """Check that attributes are 0 or more, or None where they may be.

    Args:
        options: what has them.
        what: what they are a number of: `seconds`.
        names: of the attributes.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not (is_number(value) and value >= 0):
            raise ValueError(f"{name} is a number of {what}, 0 or more, not {value!r}")


def is_number(value: object) -> TypeGuard[float]:
    """False for a text such as `7d`, which the command line would understand."""
    return isinstance(value, (int, float))
