"""The embedded log: one SQLite file, for any number of processes on one machine. The default."""

from newswire.log.sqlite.engine import SqliteLog

__all__ = ["SqliteLog"]
