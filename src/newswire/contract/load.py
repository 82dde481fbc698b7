"""Finds a contract by name, for commands: `MODULE:CONTRACT`."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from newswire.contract.contract import Contract


def load(target: str, folder: str = ".") -> Contract[Any]:
    """Import a contract.

    Args:
        target: `MODULE:CONTRACT`, such as `shop.events:events`.
        folder: where Python looks for the module first.

    Raises:
        ValueError: there is no such contract; the message says what is missing.
    """
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"{target!r} is not MODULE:CONTRACT, such as shop.events:events")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        home: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ValueError(f"there is no module {error.name!r} in {folder!r}, nor is it installed") from None
    except ImportError as error:  # an extra is missing
        raise ValueError(str(error)) from error
    found = home
    for name in attribute.split("."):
        if not hasattr(found, name):
            contracts = [name for name, each in vars(home).items() if isinstance(each, Contract)]
            hint = f"; it has {', '.join(contracts)}" if contracts else ""
            raise ValueError(f"module {module!r} has no {attribute!r}{hint}")
        found = getattr(found, name)
    if not isinstance(found, Contract):
        raise ValueError(f"{target} is of type {type(found).__name__}, and no newswire.contract.Contract")
    return found
