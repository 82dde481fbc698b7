"""A process that publishes in random transactions until it is killed. Each event has a row in the same transaction.

    python transactor.py URL-OF-THE-LOG DATABASE TABLE NAME SEED

DATABASE is a file of SQLite's or a URL of PostgreSQL's. Half of the transactions are rolled back, and half of their
savepoints. A line of its output is one transaction that has ended.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from itertools import count
from typing import Any

from newswire import Hub


def connect(database: str) -> Any:
    """A connection that begins no transaction by itself."""
    if not database.startswith("postgresql:"):
        return sqlite3.connect(database, isolation_level=None, timeout=30)
    import psycopg

    return psycopg.connect(database, autocommit=True)


async def main(url: str, database: str, table: str, name: str, seed: int) -> None:
    dice = random.Random(seed)
    mark = "%s" if database.startswith("postgresql:") else "?"
    begin = "BEGIN" if mark == "%s" else "BEGIN IMMEDIATE"
    async with Hub(url) as hub:
        connection = connect(database)
        tags = (f"{name}.{number}" for number in count())

        async def insert() -> None:
            tag = next(tags)
            connection.execute(f"INSERT INTO {table} (tag) VALUES ({mark})", (tag,))
            await hub.publish(f"rows.{name}", tag, connection=connection)

        while True:
            connection.execute(begin)
            for _ in range(dice.randint(1, 3)):
                await insert()
                if dice.random() < 0.5:
                    connection.execute("SAVEPOINT step")
                    await insert()
                    if dice.random() < 0.5:
                        connection.execute("ROLLBACK TO SAVEPOINT step")
                    connection.execute("RELEASE SAVEPOINT step")
                if dice.random() < 0.2:
                    await asyncio.sleep(dice.random() / 100)
            connection.execute(dice.choice(["COMMIT", "ROLLBACK"]))
            os.write(1, b"x\n")
            await asyncio.sleep(0.001)


asyncio.run(main(*sys.argv[1:5], int(sys.argv[5])))
