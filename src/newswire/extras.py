"""Says which extra brings a package that is not installed."""

from __future__ import annotations

from types import TracebackType


class Extra:
    """Imports that need an extra: `with Extra("newswire.server", "server"): import …`.

    Args:
        what: what needs it, for the error's text.
        name: of the extra.
    """

    def __init__(self, what: str, name: str) -> None:
        self._what = what
        self._name = name

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raise the `ModuleNotFoundError` of another package again, with what to do about it."""
        if isinstance(error, ModuleNotFoundError) and error.name:
            package = error.name.partition(".")[0]
            if package != "newswire":
                text = f"{self._what} needs {package}, which is not installed: pip install 'newswire[{self._name}]'"
                raise ModuleNotFoundError(text, name=error.name) from None
