"""granian with workers that live four seconds: `young_workers.py PORT`. Its command takes no less than a minute."""

from __future__ import annotations

import sys

from granian import Granian
from granian.constants import Interfaces

if __name__ == "__main__":
    server = Granian(
        "apps:app", port=int(sys.argv[1]), interface=Interfaces.ASGI, workers_lifetime=60, workers_kill_timeout=60
    )

    @server.on_startup
    def shorten() -> None:
        """Called when the settings have been checked, before the first worker starts."""
        server.workers_lifetime = 4

    server.serve()
