"""Runs the cluster: a Valkey server, two newswire servers on it, publishers, and what to try.

Each of the three is started again whenever it dies, so that anybody may kill it: with the page's buttons, or `kill -9`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import webbrowser
from pathlib import Path

import httpx2

from examples.cluster.moving import Moving
from examples.cluster.valkey import ValkeyProcess
from examples.demo.__main__ import free
from examples.demo.outbox import Outbox
from examples.demo.sources import milliseconds, ticks
from examples.demo.supervisor import CanNotServe, Supervisor

WELCOME = """
  The page   {one}/cluster/

  Two servers, {one} and {two}, share one log on a Valkey server. The page's EventSource moves between
  them, and kill -9 of each of the three, at any moment, costs it nothing: 0 lost, 0 doubled.

  Ctrl-C ends it. Another port: make cluster PORT=8010. The log is in {folder}/: rm -r {folder} forgets everything.
"""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.cluster", description="Two servers on one Valkey.")
    parser.add_argument("--port", type=int, default=8000, help="of the first server; the second has the next [8000]")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    parser.add_argument("--rate", type=float, default=50, help="events a second on the channel 'ticks' [50]")
    parser.add_argument("--data", type=Path, default=Path("cluster-data"), help="where to keep the log [cluster-data]")
    return parser.parse_args()


async def cluster(options: argparse.Namespace) -> None:
    """Run it all until cancelled."""
    folder = options.data.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    urls = [f"http://127.0.0.1:{options.port + number}" for number in range(2)]
    ports = [options.port, options.port + 1]
    async with (
        httpx2.AsyncClient(base_url=urls[0], timeout=10, transport=Moving(ports)) as client,
        httpx2.AsyncClient(base_url=urls[0], timeout=10) as first,
        httpx2.AsyncClient(base_url=urls[1], timeout=10) as second,
        asyncio.TaskGroup() as tasks,
    ):
        boxes = {name: Outbox(client, name) for name in ("ticks", "notices")}

        def tell(text: str) -> None:
            print(text, flush=True)
            boxes["notices"].put("notice", text=text[:1].upper() + text[1:], t=milliseconds())

        valkey = ValkeyProcess(folder, tell)
        tasks.create_task(valkey.run())
        await valkey.ready.wait()
        servers = []
        for name, port, own in (("one", ports[0], first), ("two", ports[1], second)):
            environment = {
                "NEWSWIRE_LOG": valkey.url,
                "NEWSWIRE_CORS_ORIGINS": ",".join(urls),
                "CLUSTER_FOLDER": str(folder),
                "CLUSTER_NAME": name,
                "CLUSTER_SERVERS": " ".join(urls),
            }

            def tell_of(text: str, name: str = name) -> None:
                tell(f"{name}: {text}")

            server = Supervisor(port, folder, own, tell_of, environment, app="examples.cluster.app:app")
            servers.append(server)
            tasks.create_task(server.run())
        for server in servers:
            await server.ready.wait()
        print(WELCOME.format(one=urls[0], two=urls[1], folder=options.data), flush=True)
        if not options.no_browser:
            await asyncio.to_thread(webbrowser.open, f"{urls[0]}/cluster/")
        for box in boxes.values():
            tasks.create_task(box.publish())
        await ticks(boxes["ticks"], options.rate)


async def main() -> None:
    """Run the cluster until it is interrupted."""
    options = arguments()
    for port in (options.port, options.port + 1):
        if not free(port):
            sys.exit(f"port {port} of 127.0.0.1 is in use: choose another: make cluster PORT={options.port + 10}")
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await cluster(options)
    except* CanNotServe as group:
        sys.exit(str(group.exceptions[0]))


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(main())
