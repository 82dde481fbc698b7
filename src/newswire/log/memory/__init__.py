"""The log in memory, for one process."""

from newswire.log.memory.engine import MemoryLog

__all__ = ["MemoryLog"]
