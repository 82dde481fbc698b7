"""Runs the demo: a server that is started again whenever it dies, its publishers, a model, and what to try."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
import webbrowser
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx2

from examples.chat.model import NAME, running
from examples.demo.job import job
from examples.demo.logfile import log_lines
from examples.demo.outbox import Outbox
from examples.demo.sources import machine, milliseconds, server, ticks
from examples.demo.supervisor import CanNotServe, Supervisor

WELCOME = """
  The dashboard   {url}/demo/
  The chat        {url}/chat/     {chat}
  The console     {url}/

  Try   kill -9 {pid}                            the page goes on with the next event: 0 lost, 0 doubled
        curl -N {url}/channels/machine      this machine's load, as it comes
        curl -d '{{"name": "me", "text": "hello"}}' '{url}/channels/room?event=say'
        the page in two windows, and a kill in the middle of a conversation

  Ctrl-C ends it. Another port: make demo PORT=8001. The log is in {folder}/: rm -r {folder} forgets everything.
"""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="A dashboard of this machine.")
    parser.add_argument("--port", type=int, default=8000, help="where to listen, on 127.0.0.1 [8000]")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    parser.add_argument("--seconds", type=float, help="stop by itself after so long")
    parser.add_argument("--rate", type=float, default=20, help="events a second on the channel 'ticks' [20]")
    parser.add_argument("--data", type=Path, default=Path("demo-data"), help="where to keep the log [demo-data]")
    return parser.parse_args()


def free(port: int) -> bool:
    """Whether the port is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def demo(options: argparse.Namespace) -> None:
    """Run the server and its publishers until cancelled."""
    options.data.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{options.port}"
    # One publisher's request is under way at a time for each channel; a server that was killed must not be waited for.
    async with (
        httpx2.AsyncClient(base_url=url, timeout=10) as client,
        running() as model,
        asyncio.TaskGroup() as tasks,
    ):
        boxes = {name: Outbox(client, name) for name in ("machine", "server", "job", "log", "ticks", "notices")}

        def tell(text: str) -> None:
            print(text, flush=True)
            boxes["notices"].put("notice", text=text[:1].upper() + text[1:], t=milliseconds())

        supervisor = Supervisor(options.port, options.data, client, tell, model.environment())
        serving = tasks.create_task(supervisor.run())
        started = asyncio.ensure_future(supervisor.ready.wait())
        await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
        chat = f"an answer survives kill -9; the model is {NAME}" if model.url else f"no model: {model.missing}"
        print(WELCOME.format(url=url, chat=chat, pid=supervisor.pid, folder=options.data), flush=True)
        if not options.no_browser:
            await asyncio.to_thread(webbrowser.open, f"{url}/demo/")
        work: list[Coroutine[Any, Any, None]] = [
            *(box.publish() for box in boxes.values()),
            machine(boxes["machine"]),
            server(boxes["server"], client, lambda: supervisor.pid),
            job(boxes["job"], options.data / "stdlib.tar.gz"),
            log_lines(boxes["log"], options.data / "access.log"),
            ticks(boxes["ticks"], options.rate),
        ]
        for coroutine in work:
            tasks.create_task(coroutine)


async def main() -> None:
    """Run the demo until it is interrupted, or its time is over."""
    options = arguments()
    if not free(options.port):
        sys.exit(
            f"port {options.port} of 127.0.0.1 is in use: stop what listens there (perhaps another demo), "
            f"or choose another port: make demo PORT={options.port + 1}"
        )
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        async with asyncio.timeout(options.seconds):
            await demo(options)
    except* CanNotServe as group:
        sys.exit(str(group.exceptions[0]))


if __name__ == "__main__":
    with contextlib.suppress(TimeoutError, asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(main())
