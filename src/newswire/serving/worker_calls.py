"""Questions from one worker process of a server to the others, for what is too much to write down each second.

Each worker listens on a Unix socket in the folder that they share, which only their user can enter. A question is one
line of JSON, and so is the answer. A worker that is gone, stuck or too slow has no answer: the page is made without
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

logger: logging.Logger = logging.getLogger("newswire.server")

Answer: TypeAlias = Callable[[dict[str, Any]], Awaitable[Any]]

_SECONDS: Final = 2.0
_MOST: Final = 4 * 2**20  # bytes of a question or an answer


class WorkerCalls:
    """The socket of one worker, and the way to those of the others.

    Args:
        folder: of the workers of one server; None for a single process, which has no others.
        worker: names this worker.
        answer: answers a question, in each worker.
    """

    def __init__(self, folder: Path | None, worker: str, answer: Answer) -> None:
        self._folder = folder
        self._worker = worker
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        if self._folder is None:
            return
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, self._folder / f"{self._worker}.sock", limit=_MOST
            )
        except OSError as error:  # the path of a socket has about a hundred bytes at most
            logger.warning("other workers can't ask this one which streams it has: %s", error)

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None and self._folder is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                (self._folder / f"{self._worker}.sock").unlink()

    def workers(self) -> list[str]:
        """The names of all workers that listen, or did until they were killed; this one among them. In order."""
        others = {file.stem for file in self._folder.glob("*.sock")} if self._folder is not None else set[str]()
        return sorted(others | {self._worker})

    async def ask(self, worker: str, question: dict[str, Any]) -> Any:
        """Ask one worker, which may be this one. None: it does not answer."""
        if worker == self._worker:
            return await self._answer(question)
        if self._folder is None:
            return None
        try:
            async with asyncio.timeout(_SECONDS):
                path = self._folder / f"{worker}.sock"
                reader, writer = await asyncio.open_unix_connection(path, limit=_MOST)
                try:
                    writer.write(json.dumps(question).encode() + b"\n")
                    return json.loads(await reader.readline())
                finally:
                    writer.close()
        except (OSError, ValueError, TimeoutError):
            return None

    async def ask_all(self, question: dict[str, Any]) -> list[Any]:
        """Ask all workers. Those that don't answer are left out."""
        answers = await asyncio.gather(*(self.ask(worker, question) for worker in self.workers()))
        return [answer for answer in answers if answer is not None]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                question = json.loads(await reader.readline())
                writer.write(json.dumps(await self._answer(question)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # whoever asked has gone, or is no worker
        except Exception:  # the outermost frame of a question: the log shows why it has no answer
            logger.exception("another worker's question can't be answered")
        finally:
            writer.close()
