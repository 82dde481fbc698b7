"""For those who test what they build on newswire, or build a part of it themselves."""

import pytest

# Before the imports: a failed assertion then says what it saw.
for _part in ("base", "append", "read", "follow", "keep", "ledger", "immediate"):
    pytest.register_assert_rewrite(f"newswire.testing.log_{_part}")

from newswire.testing.asgi import asgi_client  # noqa: E402
from newswire.testing.bad_server import Answer, BadServer, Seen, every_byte  # noqa: E402
from newswire.testing.chaos import ChaosProxy  # noqa: E402
from newswire.testing.clock import FakeClock, virtual_loop  # noqa: E402
from newswire.testing.log_immediate import ImmediateSuite  # noqa: E402
from newswire.testing.log_ledger import LedgerSuite  # noqa: E402
from newswire.testing.log_suite import LogSuite  # noqa: E402
from newswire.testing.wait import next_event, until  # noqa: E402

__all__ = [
    "Answer",
    "BadServer",
    "ChaosProxy",
    "FakeClock",
    "ImmediateSuite",
    "LedgerSuite",
    "LogSuite",
    "Seen",
    "asgi_client",
    "every_byte",
    "next_event",
    "until",
    "virtual_loop",
]
