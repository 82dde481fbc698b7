"""For those who test what they build on newswire, or build a part of it themselves.

The suites need pytest and are imported when they are first used. Nothing else here needs it.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from newswire.testing.asgi import asgi_client
from newswire.testing.bad_server import Answer, BadServer, Seen, every_byte
from newswire.testing.chaos import ChaosProxy
from newswire.testing.clock import FakeClock, virtual_loop
from newswire.testing.wait import next_event, until

if TYPE_CHECKING:
    from newswire.testing.log_suite import LogSuite

__all__ = [
    "Answer",
    "BadServer",
    "ChaosProxy",
    "FakeClock",
    "LogSuite",
    "Seen",
    "asgi_client",
    "every_byte",
    "next_event",
    "until",
    "virtual_loop",
]

_SUITES = {"LogSuite": "log_suite"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _SUITES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import pytest

        # Before they are imported: a failed assertion then says what it saw.
        for part in ("base", "append", "read", "follow", "keep", "condition", "submit", "walk"):
            if (module := f"newswire.testing.log_{part}") not in sys.modules:
                pytest.register_assert_rewrite(module)
        value = globals()[name] = getattr(import_module(f"newswire.testing.{_SUITES[name]}"), name)
        return value
