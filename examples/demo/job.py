"""A real job with progress: Python's standard library, hashed and packed into `stdlib.tar.gz`, again and again.

The work runs in a thread; what it reports comes back into the event loop as plain calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import sysconfig
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from examples.demo.outbox import Outbox

# A job that takes a person's while, and leaves the machine to the person.
BYTES_A_SECOND: Final = 700_000
REPORT_SECONDS: Final = 0.25
PAUSE_SECONDS: Final = 8.0

Report = Callable[[dict[str, Any]], None]


def standard_library() -> list[Path]:
    """The files of this Python's standard library, without what pip installed and what Python compiled."""
    root = Path(sysconfig.get_path("stdlib"))
    skip = {"site-packages", "dist-packages", "__pycache__", "test"}
    return sorted(path for path in root.rglob("*.py") if not skip & set(path.relative_to(root).parts))


def pack(files: list[Path], target: Path, report: Report, stop: threading.Event) -> dict[str, Any] | None:
    """Hash and pack files.

    Args:
        files: what to pack.
        target: the archive; replaced when it is complete.
        report: gets the state of the job now and then.
        stop: set it to end the job early.

    Returns:
        the result; None if it was stopped.
    """
    total = sum(path.stat().st_size for path in files)
    digest = hashlib.sha256()
    started = reported = time.monotonic()
    done = 0
    part = target.with_suffix(".part")
    with tarfile.open(part, "w:gz", compresslevel=6) as archive:
        for number, path in enumerate(files, 1):
            digest.update(path.read_bytes())
            archive.add(path, arcname=str(Path(path.parent.name, path.name)))
            done += path.stat().st_size
            now = time.monotonic()
            if now - reported >= REPORT_SECONDS:
                reported = now
                report({"done": done, "total": total, "files": number, "of": len(files), "file": path.name})
            if stop.wait(max(0.0, started + done / BYTES_A_SECOND - now)):
                return None
    part.replace(target)
    return {
        "total": total,
        "files": len(files),
        "packed": target.stat().st_size,
        "seconds": round(time.monotonic() - started, 1),
        "sha256": digest.hexdigest(),
    }


async def job(outbox: Outbox, target: Path) -> None:
    """Run the job again and again, and publish its progress and its results."""
    loop = asyncio.get_running_loop()
    files = await asyncio.to_thread(standard_library)
    stop = threading.Event()
    number = 0
    try:
        while True:
            number += 1

            def report(state: dict[str, Any], job: int = number) -> None:
                loop.call_soon_threadsafe(lambda: outbox.put("progress", job=job, **state))

            result = await asyncio.to_thread(pack, files, target, report, stop)
            if result is not None:
                outbox.put("finished", job=number, t=round(time.time() * 1000), file=target.name, **result)
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        stop.set()
