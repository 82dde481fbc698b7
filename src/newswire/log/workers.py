"""A log in memory in one of several workers of a server or a job queue, which share no memory.

It would be one log for each worker: an event would reach the readers of one, and those of the others would never learn
of it. Nothing would fail, so the hub refuses to open such a log. No server says in one way how many workers it has;
each is seen by its own signs, and where there are none, nothing is refused.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
from pathlib import Path
from typing import Any, Final

from newswire.log.log import Log

_SERVERS: Final = frozenset({"uvicorn", "gunicorn", "hypercorn", "granian", "fastapi", "newswire"})
_QUEUES: Final = {"celery": "worker", "rq": "worker", "dramatiq": ""}  # and the command that starts their workers
_FLAG: Final = re.compile(r"(?:^|\s)(?:--workers[= ]|-w[= ]?)(\d{1,4})(?=\s|$)")


def refuse_if_not_shared(log: Log) -> None:
    """See that `log` is not in memory where there are other workers.

    Raises:
        RuntimeError: it is; the message says what to do.
    """
    server = None if log.engine.shared else workers()
    if server is not None:
        raise RuntimeError(
            f"this is one of several workers of {server}, and its log is in memory (memory://): each worker would have "
            "a log of its own, and readers would miss what the others publish. Use a log that they share, such as "
            "sqlite:///events.db, or one worker"
        )


def workers() -> str | None:
    """The server or job queue that this process is one of several workers of; None if there is no sign of others."""
    if getattr(sys.modules.get("uwsgi"), "numproc", 1) > 1:  # a module that uWSGI makes in its workers
        return "uWSGI"
    if (queue := _job_queue()) is not None:
        return queue
    if os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn"):
        siblings = getattr(getattr(sys.modules.get("gunicorn.arbiter"), "Arbiter", None), "WORKERS", {})
        return "gunicorn" if siblings or _asked_for(os.environ.get("GUNICORN_CMD_ARGS", "")) > 1 else None
    worker: Any = multiprocessing.current_process()
    if multiprocessing.parent_process() is None:
        return None
    # uvicorn (so `newswire run` and `fastapi run` too) and hypercorn give their workers their configuration.
    config = (getattr(worker, "_kwargs", None) or {}).get("config")
    if isinstance(number := getattr(config, "workers", None), int):
        module = type(config).__module__.partition(".")[0]
        return module if number > 1 and not getattr(config, "should_reload", False) else None
    server = Path(sys.argv[0]).name
    return server if server in _SERVERS and _asked_for("") > 1 else None


def _job_queue() -> str | None:
    """The job queue whose worker this is, by the command that was given: readers are in other processes."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.stem
    command = _QUEUES.get(name)
    return name if command is not None and any(word.startswith(command) for word in sys.argv[1:]) else None


def _asked_for(more: str) -> int:
    """How many workers the command line asks for, or the variable that most servers read."""
    found = _FLAG.findall(" ".join([more, *sys.argv[1:]]))
    variable = os.environ.get("WEB_CONCURRENCY", "")
    return int(found[-1]) if found else int(variable) if variable.isdecimal() and len(variable) < 5 else 1
