"""How type checkers learn the names of a contract's events from a hub or a contract. Nothing here does anything.

A hub whose events are `TypedEvent[Literal["price"], Price] | TypedEvent[Literal["done"], None]` takes the names `price`
and `done`. Where a type variable has several solutions, pyright takes their union, and mypy what they have in common:
`str`. But mypy takes the union, too, if one of the solutions is a union. So what is declared as `E | Named[NoName]` has
names that are exactly those of `E`, in both.
"""

from __future__ import annotations

from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

N = TypeVar("N", covariant=True)

# Two names that no event can have.
NoName: TypeAlias = Literal["\0", "\n"]


class Named(Generic[N]):
    """What has a name of the type N."""

    __slots__ = ()


class Names(Protocol[N]):
    """What has events whose names are of the type N."""

    def _names(self) -> Named[N]: ...
