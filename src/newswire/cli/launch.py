"""How the commands start uvicorn: one process, several, or one that is started again when the code changes.

The socket is bound before anything else (`newswire.cli.listeners`), so that a port in use is a sentence and not a stack
trace, and `--port 0` can say which one it took. Every way uses the direct path and stops within its grace time.
"""

from __future__ import annotations

import asyncio
import copy
import ctypes
import gc
import logging
import math
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Final

from uvicorn import Config, Server
from uvicorn.config import LOGGING_CONFIG, STARTUP_FAILURE
from uvicorn.supervisors import ChangeReload, multiprocess

from newswire import posix
from newswire.cli import early
from newswire.cli.listeners import BACKLOG
from newswire.cli.settings import SettingsReader
from newswire.cli.terminal import colours
from newswire.delivery.drain import drain_of
from newswire.serving.hangup import Hangup
from newswire.serving.json_logs import RequestIds
from newswire.serving.option_types import with_mapped
from newswire.serving.reload import read_again

logger: logging.Logger = logging.getLogger("newswire.server")

DIRECT: Final = "newswire.delivery.uvicorn:DirectHttpProtocol"
# New containers after which the collector looks at them.
_YOUNG: Final = 100_000
_SWITCH: Final = 0.0005  # seconds
_M_MMAP_THRESHOLD: Final = -3  # of <malloc.h>
_LARGE: Final = 64 * 2**10
# What is left of the grace time for cutting the rest and closing the log, in seconds.
_LAST_STEPS: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to run, and how.

    Attributes:
        app: an import string, or a callable that gives the application (it must be picklable for several workers).
        factory: whether the import string names a callable that gives the application.
        workers: processes.
        reload: start again when files in `reload_dirs` change.
        grace: seconds that streams have to end.
        log_level: of uvicorn's own messages.
        access_log: a line for each request.
        json_logs: log as JSON.
        trusted: addresses and networks of proxies whose X-Forwarded headers are believed, `*` for all; empty: no one's.
        again: reads the settings that `app` was made with again, on SIGHUP; None: it replaces several workers.
        more: further arguments of `uvicorn.Config`.
    """

    app: str | Callable[[], Any]
    factory: bool = True
    workers: int = 1
    reload: bool = False
    reload_dirs: tuple[str, ...] = ()
    grace: float = 10.0
    log_level: str = "warning"
    access_log: bool = False
    json_logs: bool = False
    trusted: tuple[str, ...] = ()
    again: SettingsReader[Any] | None = None
    more: dict[str, Any]


@contextmanager
def shared_folder(*, needed: bool) -> Iterator[Path | None]:
    """A folder for what several processes of one server tell each other. A killed server can't take it away."""
    if needed:
        with tempfile.TemporaryDirectory(prefix="newswire-") as folder:
            yield Path(folder)
    else:
        yield None


def launch(what: Launch, listeners: list[socket.socket]) -> None:
    """Run until stopped by a signal. Returns after a stop in order; exits with 3 if the application can't start."""
    posix.allow_many_files()
    timeout: Any = max(0.5, what.grace - _LAST_STEPS)  # uvicorn says int, and hands it to asyncio, which takes any
    config = _Config(
        what.app,
        factory=what.factory,
        http=DIRECT,
        workers=what.workers,
        reload=what.reload,
        reload_dirs=list(what.reload_dirs) or None,
        log_config=_logging(what),
        log_level=what.log_level,
        access_log=what.access_log,
        backlog=BACKLOG,
        timeout_graceful_shutdown=timeout,
        timeout_worker_healthcheck=math.ceil(what.grace) + 5,
        server_header=False,
        proxy_headers=bool(what.trusted),  # uvicorn would believe all that comes from this machine
        forwarded_allow_ips=with_mapped(what.trusted),
        **what.more,
    )
    config.json_logs = what.json_logs
    try:
        if what.reload:
            _Reload(config, target=_Server(config).run, sockets=listeners).run()
        elif what.workers > 1:
            supervisor = _Workers(config, listeners, what.again)  # from here on it hears of signals
            if early.stops:
                supervisor.should_exit.set()
            supervisor.run()
            if supervisor.failed:
                raise SystemExit(STARTUP_FAILURE)
        else:
            _Server(config).run(listeners)
    except KeyboardInterrupt:
        pass


class _Config(Config):
    """uvicorn's configuration, of a process that is a server and nothing else."""

    json_logs = False

    def configure_logging(self) -> None:
        """uvicorn's way; it then sets the level of its messages for the access log too, which is another matter."""
        super().configure_logging()
        if self.access_log:
            logging.getLogger("uvicorn.access").setLevel(logging.INFO)

    def load(self) -> None:
        """Load the application; then tell the collector that what is there now stays.

        A stream's life is short objects, which reference counting frees, and by default the collector looks through
        them every 700 that are new, and through the whole program now and then: pauses of 50 ms with 1,000 streams.
        """
        super().load()
        if self.json_logs:
            self.loaded_app = RequestIds(self.loaded_app, self.forwarded_allow_ips)
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG, 10, 10)
        # A log's thread has to get Python's lock from a busy event loop, which by default keeps it for 5 ms.
        sys.setswitchinterval(_SWITCH)
        _give_back_memory()


class _Server(Server):
    """uvicorn's server; it accepts no connection any more from the moment in which its streams end.

    uvicorn's own handler comes a tenth of a second later. A connection that is not accepted waits for the next server
    on the same socket; where there is none, a proxy tries another server at once.
    """

    finite = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            _stop_with_parent()
            drain_of(asyncio.get_running_loop()).enter(self)
            if early.hangups and posix.HANGUP is not None:
                signal.raise_signal(posix.HANGUP)  # now the application hears it

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        drain_of(asyncio.get_running_loop()).leave(self)
        await super().shutdown(sockets)

    def stop(self) -> None:
        """See `Stoppable`."""
        for server in self.servers:
            server.close()

    def cut(self) -> None:
        """See `Stoppable`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            if early.stops:
                self.should_exit = True
            if posix.HANGUP is not None and signal.getsignal(posix.HANGUP) is signal.SIG_DFL:
                # Its terminal was closed, and nothing is to be read again: to die at once would break every stream.
                signal.signal(posix.HANGUP, lambda *_: signal.raise_signal(signal.SIGTERM))
            yield


def _stop_with_parent() -> None:
    """In a worker: stop in order once the process that started it is gone, for its successor needs the port."""
    parent = parent_process()
    if parent is None:
        return
    join = parent.join

    def wait() -> None:
        join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="newswire parent", daemon=True).start()


class _Worker(multiprocess.Process):
    """A worker of uvicorn's supervisor.

    Attributes:
        hung: it was killed because it did not answer.
    """

    hung = False

    def start(self) -> None:
        """Start it; its end of the pipe is its own, so that its death ends a wait for what it answers."""
        super().start()
        self.child_conn.close()

    def kill(self) -> None:
        """Kill it; one that is alive has not answered in time."""
        self.hung = self.process.is_alive()
        super().kill()

    def ping(self, timeout: float = 5) -> bool:
        try:
            return super().ping(timeout)
        except (EOFError, OSError):  # what some versions of uvicorn do about a worker that died
            return False

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = _Server(config=self.config)
        return self._server


class _Workers(multiprocess.Multiprocess):
    """uvicorn's supervisor of several processes; on SIGHUP each reads its settings again.

    Attributes:
        failed: a worker could not start, and no signal has ended the others: uvicorn would end with status 0.
    """

    def __init__(self, config: Config, sockets: list[socket.socket], again: SettingsReader[Any] | None) -> None:
        super().__init__(config, sockets)
        self.failed = False
        self._again = again
        self._hangup = Hangup(self._reread)
        if early.hangups and posix.HANGUP is not None:
            self.signal_queue.append(posix.HANGUP)

    def handle_hup(self) -> None:
        if self._again is None:
            super().handle_hup()
        else:
            self._hangup()

    def _reread(self) -> None:
        app: Any = self.config.app
        found = None if self._again is None else read_again(app.args[0], self._again)
        if found is None:
            return
        settings, line = found
        logger.info(line)
        self.config.app = partial(app.func, settings, **app.keywords)  # for workers that start from here on
        for process in self.processes:
            ready = process.wait_until_ready(self.config.timeout_worker_healthcheck, self.should_exit)
            if ready and process.pid is not None and posix.HANGUP is not None:
                os.kill(process.pid, posix.HANGUP)

    def keep_subprocess_alive(self) -> None:
        stopping = self.should_exit.is_set()
        before = list(self.processes)
        super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=True):
            if new is not old:
                logger.warning("worker %s %s: another one starts", old.pid, _how_it_ended(old))
        self.failed = self.failed or (not stopping and self.should_exit.is_set())

    def init_processes(self) -> None:
        multiprocess.Process = _Worker  # type: ignore[misc]  # uvicorn has no other way to say so
        super().init_processes()


def _how_it_ended(worker: Any) -> str:
    if worker.hung:
        return f"has not answered for {worker.config.timeout_worker_healthcheck} s and was killed"
    status = worker.exitcode
    if status >= 0:
        return f"ended with status {status}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"


class _Reload(ChangeReload):  # type: ignore[misc, valid-type]  # one of two classes
    def startup(self) -> None:
        super().startup()
        if early.stops:
            self.should_exit.set()


_FILTERS: Final = {"secrets": "HideSecrets", "stop": "CutShort"}


def _logging(what: Launch) -> dict[str, Any]:
    """uvicorn's own logging, with newswire's messages beside it."""
    config = copy.deepcopy(LOGGING_CONFIG)
    if not colours(sys.stderr):
        for formatter in config["formatters"].values():
            formatter["use_colors"] = False
    for handler in config["handlers"].values():
        handler["class"] = "newswire.serving.access_log.LossyHandler"
    config["loggers"]["newswire"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    config["filters"] = {name: {"()": f"newswire.serving.access_log.{kind}"} for name, kind in _FILTERS.items()}
    config["loggers"]["uvicorn.error"]["filters"] = ["stop"]
    config["loggers"]["uvicorn.access"]["filters"] = ["secrets"]
    if what.json_logs:
        for name in config["formatters"]:
            config["formatters"][name] = {"()": "newswire.serving.json_logs.JsonFormatter"}
        config["handlers"]["access"]["stream"] = "ext://sys.stderr"
    return config


def _give_back_memory() -> None:
    """Have the C library give each large block back to the system when it is free.

    Pieces of bodies come and go in all sizes up to 256 KB. In one heap they leave holes that the next don't fit in:
    32 MB of unfinished bodies then take 110 MB and more. Only GNU's library has such a setting.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return  # somebody knows better
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
    except (OSError, TypeError, AttributeError):
        pass
