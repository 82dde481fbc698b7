"""The log: what was published, in order, and where each reader is in it.

`open_log` makes one from a URL. `Log` is what every one of them can do; `newswire.testing.LogSuite` proves it.
"""

from newswire.log.channels import Channels
from newswire.log.engine import Entry, Page, Span
from newswire.log.log import Log
from newswire.log.memory import MemoryLog
from newswire.log.open import open_log
from newswire.log.position import Position
from newswire.log.retention import Retention, RetentionRules

__all__ = [
    "Log",
    "open_log",
    "MemoryLog",
    "Position",
    "Channels",
    "Entry",
    "Page",
    "Span",
    "Retention",
    "RetentionRules",
]
