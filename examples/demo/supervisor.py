"""Keeps the demo's server running: starts it again whenever it dies, so that anybody may kill it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import httpx2

ROOT: Final = Path(__file__).parents[2]
READY_SECONDS: Final = 30.0
# Fewer of its lives in a row that were over before it answered are bad luck; then something is wrong with it.
STILLBORN: Final = 3


class CanNotServe(Exception):
    """The server can't be kept running; the message says what to do."""


class Supervisor:
    """The server's process, over all its lives.

    Args:
        port: where it listens, on 127.0.0.1.
        folder: where its log and its access log are.
        client: asks it whether it is ready.
        tell: called with what happened, for people.
        environment: more settings of the server.
        app: what to run.

    Attributes:
        pid: the process that runs now; None between two lives.
        ready: set once the server has answered for the first time.
        deaths: how often it has died and been started again.
    """

    def __init__(
        self,
        port: int,
        folder: Path,
        client: httpx2.AsyncClient,
        tell: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
        *,
        app: str = "examples.demo.app:app",
    ) -> None:
        self.pid: int | None = None
        self.ready = asyncio.Event()
        self.deaths = 0
        self._port = port
        self._app = app
        self._client = client
        self._tell = tell
        self._environment = {
            **os.environ,
            "NEWSWIRE_LOG": f"sqlite:///{folder.absolute()}/events.db",
            "NEWSWIRE_RETRY": "500",  # milliseconds: somebody is watching
            "DEMO_ACCESS_LOG": str(folder.absolute() / "access.log"),
            "DEMO_SUPERVISED": "1",
            **(environment or {}),
        }

    async def run(self) -> None:
        """Keep the server running until cancelled.

        Raises:
            CanNotServe: it dies again and again before it answers.
        """
        command = [sys.executable, "-m", "newswire.cli.main", "run", self._app, "--port", str(self._port)]
        stillborn = 0
        died: float | None = None
        while stillborn < STILLBORN:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=ROOT, env=self._environment, stdin=asyncio.subprocess.PIPE, start_new_session=True
            )
            try:
                if await self._answers(process):
                    stillborn = 0
                    self.pid = process.pid
                    after = "" if died is None else f" {time.monotonic() - died:.1f} s later"
                    self._tell(f"the server runs{after}: process {process.pid}")
                    self.ready.set()
                else:
                    stillborn += 1
                status = await process.wait()
                self.pid = None
                died = time.monotonic()
                self.deaths += 1
                how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                self._tell(f"process {process.pid} {how}")
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()
        raise CanNotServe("the server ends before it answers; what it says about it is above")

    async def _answers(self, process: asyncio.subprocess.Process) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                while process.returncode is None:
                    with contextlib.suppress(httpx2.TransportError):
                        answer = await self._client.get("/health/ready")
                        if answer.status_code == 200:
                            return True
                    await asyncio.sleep(0.03)
        return False
