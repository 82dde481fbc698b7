"""Runs the demo: a server that is started again whenever it dies, and its publishers."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path

import httpx2

from examples.demo.publishers import Publisher, job, log_lines, machine, ticks


async def serve(port: int, folder: Path, ready: asyncio.Event) -> None:
    """Keep the server running."""
    environment = {**os.environ, "NEWSWIRE_LOG": f"sqlite:///{folder.absolute()}/events.db"}
    while True:
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "newswire.cli.main", "run", "examples.demo.app:app", "--port", str(port)),
            env=environment,
        )
        try:
            async with httpx2.AsyncClient() as client:
                while server.returncode is None:
                    with contextlib.suppress(httpx2.TransportError):
                        await client.get(f"http://127.0.0.1:{port}/health/ready")
                        break
                    await asyncio.sleep(0.05)
            print(f"the server runs as process {server.pid}: try `kill -9 {server.pid}`", flush=True)
            ready.set()
            await server.wait()
            print(f"process {server.pid} is gone ({server.returncode}); starting another", flush=True)
            await asyncio.sleep(0.3)
        finally:
            if server.returncode is None:
                server.terminate()
                await server.wait()


async def main() -> None:
    """Parse the arguments and run until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--rate", type=float, default=20, help="events a second on the channel 'ticks'")
    parser.add_argument("--seconds", type=float, default=None, help="stop after so long")
    parser.add_argument("--data", type=Path, default=Path("demo-data"), help="where the log is kept")
    options = parser.parse_args()
    options.data.mkdir(exist_ok=True)
    file = options.data / "demo.log"
    logger = logging.getLogger("demo")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.FileHandler(file))
    ready = asyncio.Event()
    url = f"http://127.0.0.1:{options.port}"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(options.seconds), asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(options.port, options.data, ready))
            await ready.wait()
            print(f"the dashboard: {url}/demo    the console: {url}/", flush=True)
            publisher = Publisher(url)
            tasks.create_task(machine(publisher))
            tasks.create_task(job(publisher, logger))
            tasks.create_task(log_lines(publisher, file))
            tasks.create_task(ticks(publisher, options.rate))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
