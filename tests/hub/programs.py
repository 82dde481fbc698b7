"""Programs that have a hub in a module: `programs:app` for servers, `programs.tasks` for Celery's worker."""

from __future__ import annotations

import os
from typing import Any

from newswire import Hub

FOLDER = os.environ["SITE"]
hub = Hub(f"sqlite:///{FOLDER}/log.db")


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI application that publishes which process answers."""
    hub.sync.publish("pids", str(os.getpid()))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def celery() -> Any:
    """Celery's application, on a broker of files."""
    from celery import Celery

    tasks = Celery("programs", broker="filesystem://", set_as_current=False)
    tasks.conf.broker_transport_options = {
        "data_folder_in": f"{FOLDER}/queue",
        "data_folder_out": f"{FOLDER}/queue",
        "control_folder": f"{FOLDER}/control",
        "store_processed": False,
    }
    tasks.conf.broker_connection_retry_on_startup = False
    tasks.conf.task_always_eager = os.environ.get("EAGER") == "1"

    @tasks.task(name="publish")  # type: ignore[untyped-decorator, unused-ignore]
    def publish(data: str) -> str:
        return str(hub.sync.publish("tasks", f"{data} {os.getpid()}"))

    return tasks


def published(channel: str) -> list[str]:
    """What the log has of a channel."""

    async def read() -> list[str]:
        found = []
        async for event in hub.subscribe(channel, start="earliest", live=True):
            if event.event == "newswire.live":
                break
            found.append(event.data)
        return found

    return hub.sync.call(read, 30)
