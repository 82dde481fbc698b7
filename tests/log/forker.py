"""A process that walks at random: it opens logs on one file, appends, closes, and forks, as its children do.

    python forker.py PATH SEED

Each line of its output, and of its children's, is an event that was acknowledged: `offset data`. It exits with 0 if
every refusal was the one for a fork, and only where a file had been open at one.
"""

from __future__ import annotations

import asyncio
import os
import random
import selectors
import signal
import sys
from pathlib import Path

from newswire.errors import LogUnavailable
from newswire.log.sqlite import SqliteLog, fork
from newswire.wire.event import Event


def new_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop that a child may throw away: it shares no epoll with its parent."""
    return asyncio.SelectorEventLoop(selectors.PollSelector())


class Walk:
    """One process's walk."""

    def __init__(self, path: Path, dice: random.Random) -> None:
        self.names = [path, path.with_name("link.db")]
        self.dice = dice
        self.loop = new_loop()
        self.logs: list[SqliteLog] = []
        self.inherited: list[SqliteLog] = []
        self.carried = False  # the file was open at a fork
        self.appending: list[tuple[str, asyncio.Task[object]]] = []
        self.children: list[int] = []
        self.depth = 0
        self.count = 0

    def walk(self, steps: int) -> None:
        actions = [self.open, self.append, self.append, self.append_and_go_on, self.close, self.fork, self.try_old]
        for _ in range(steps):
            self.dice.choice(actions)()

    def open(self) -> None:
        self.logs.append(SqliteLog(self.dice.choice(self.names), synchronous="NORMAL"))

    def start(self) -> None:
        """Begin to append something."""
        if self.logs:
            self.count += 1
            data = f"{os.getpid()}.{self.count}"
            log = self.dice.choice(self.logs)
            task = self.loop.create_task(log.append([(f"c{self.count % 3}", Event(data))] * self.dice.choice([1, 40])))
            self.appending.append((data, task))  # type: ignore[arg-type]

    def append(self) -> None:
        for _ in range(self.dice.choice([1, 5])):
            self.start()
        self.finish()

    def append_and_go_on(self) -> None:
        """Leave it to the threads."""
        for _ in range(5):
            self.start()
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    def finish(self) -> None:
        """Wait for what is being appended, and acknowledge it."""
        for data, task in self.appending:
            try:
                positions = self.loop.run_until_complete(asyncio.wait_for(task, 30))
            except LogUnavailable as error:
                if not self.carried or "can't share it over a fork" not in str(error):
                    raise
            else:
                if self.carried:
                    raise AssertionError("a file that was open at a fork was used")
                os.write(1, b"".join(b"%d %s\n" % (each.offset, data.encode()) for each in positions))  # type: ignore[attr-defined]
        self.appending.clear()

    def close(self) -> None:
        if self.logs:
            self.finish()
            self.loop.run_until_complete(self.logs.pop(self.dice.randrange(len(self.logs))).close())

    def try_old(self) -> None:
        """Use a log that the parent has open."""
        if self.inherited:
            log = self.dice.choice(self.inherited)
            try:
                self.loop.run_until_complete(asyncio.wait_for(log.append([("a", Event("x"))]), 30))
            except LogUnavailable as error:
                if "can't share it over a fork" not in str(error):
                    raise
            else:
                raise AssertionError("a log that was open at a fork was used")
            if self.dice.random() < 0.2:
                self.loop.run_until_complete(asyncio.wait_for(log.close(), 30))
                self.inherited.remove(log)

    def fork(self) -> None:
        if self.depth == 2 or len(self.children) == 3:
            return
        seed = self.dice.random()
        child = os.fork()
        if child:
            self.children.append(child)
            return
        self.dice = random.Random(seed)
        self.loop = new_loop()
        self.carried = bool(fork._state.carried)
        self.inherited += [log for log in self.logs if log.engine._pid is not None]
        self.logs = [log for log in self.logs if log.engine._pid is None]  # never used: as good as new
        self.appending = []
        self.children = []
        self.depth += 1
        self.walk(10)
        self.end()

    def end(self) -> None:
        """End in one of the ways in which processes end."""
        how = self.dice.choice(["kill", "now", "wait", "clean", "clean"])
        if how == "kill" and self.depth:
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "now" and self.depth:
            os._exit(0)
        self.finish()
        for log in self.logs:
            self.loop.run_until_complete(log.close())
        for child in self.children:
            _, status = os.waitpid(child, 0)
            assert status in (0, signal.SIGKILL), status
        sys.exit(0)


Walk(Path(sys.argv[1]), random.Random(int(sys.argv[2]))).walk(40)
