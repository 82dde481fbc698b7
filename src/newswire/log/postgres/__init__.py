"""The log in a PostgreSQL database. Its parts import asyncpg, which the extra `newswire[postgres]` installs."""
