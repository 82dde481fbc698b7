"""The programs of docs/outbox.md do what the page says, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from tests.docs.test_docs import ROOT, blocks, execute
from tests.fixtures.engines import Postgres

from newswire import Hub

PAGE = ROOT / "docs" / "outbox.md"
pytestmark = pytest.mark.anyio


async def states(hub: Hub, channel: str = "orders") -> list[str]:
    """The states that events tell of."""
    page, _ = await hub.history(channel)
    return [entry.data.rpartition('"state":"')[2].rstrip('"}') for entry in page.entries]


async def test_on_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's programs in order, and its SQL."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page", "seen": []}
    ours = [block for block in blocks(PAGE, "python") if "# postgresql" not in block]
    *before, snapshot = ours
    opened: set[sqlite3.Connection] = set()  # the page's programs have other connections of the same name
    for block in before:
        await execute(block, names)
        if isinstance(names.get("connection"), sqlite3.Connection):
            opened.add(names["connection"])
    hub: Hub = names["hub"]
    assert names["position"].offset == 1
    await asyncio.to_thread(in_django, names["pay"], tmp_path)
    connection = names["connection"] = sqlite3.connect("app.db")
    insert, _ = blocks(PAGE, "sql")
    connection.executescript(insert)
    assert await states(hub) == ["new", "paid", "sent", "paid"]
    page, _ = await hub.history("orders.1")
    assert [(entry.event, entry.data) for entry in page.entries] == [("changed", '{"state": "paid"}')]
    publishing = asyncio.create_task(later(hub))
    await execute(snapshot.replace("    ...", "    seen.append(event.data)\n    break"), names)
    await publishing
    assert names["rows"] == [(1, "paid")]
    assert names["seen"] == ["later"]
    for each in (connection, *opened):
        each.close()
    await names["engine"].dispose()
    await hub.close()


async def later(hub: Hub) -> None:
    """Publish when the snapshot was taken."""
    await asyncio.sleep(0.3)
    await hub.publish("orders", "later")


def in_django(pay: Any, folder: Path) -> None:
    """Call the page's view with Django's connection."""
    import django
    from django.conf import settings
    from django.db import connections

    if not settings.configured:
        settings.configure(DATABASES={})
    django.setup()
    config = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "app.db")}
    connections.settings = connections.configure_settings({"default": config})
    try:
        pay(1)
    finally:
        connections.close_all()
        connections.settings = connections.configure_settings({})


async def test_on_postgres(postgres: Postgres) -> None:
    """The programs for PostgreSQL, and its function."""
    name = f"page_{uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f"CREATE DATABASE {name}")
    url = postgres.url.rpartition("/")[0] + f"/{name}"
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE orders (id integer, state text)")
    names: dict[str, Any] = {"__name__": "page", "Hub": Hub}
    for block in blocks(PAGE, "python"):
        if "# postgresql" in block:
            await execute(block.replace("postgresql://localhost/shop", url), names)
    hub: Hub = names["hub"]
    _, call = blocks(PAGE, "sql")
    await connection.execute(call)
    await (await hub.publish("end", "end", connection=connection)).wait(20)
    assert await states(hub) == ["paid", "sent", "back"]
    page, _ = await hub.history("orders.1")
    assert [(entry.event, entry.data) for entry in page.entries] == [("changed", '{"state": "paid"}')]
    await hub.close()
    await connection.close()
    await admin.close()
