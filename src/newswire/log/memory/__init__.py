"""The log in memory, for one process."""

from newswire.log.memory.log import MemoryLog

__all__ = ["MemoryLog"]
