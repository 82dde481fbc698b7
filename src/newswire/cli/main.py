"""The `newswire` command: its entry point, and what it says when a part is not installed."""

from __future__ import annotations

import sys
from typing import Final

# What the extra `server` brings. Anything else that can't be imported is a fault of the application that was to run.
_EXTRA: Final = frozenset({"click", "httptools", "httpx2", "prometheus_client", "rich", "starlette", "uvicorn"})


def main() -> None:
    """Run the command line."""
    try:
        from newswire.cli.commands import newswire

        newswire()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.exit(f"newswire: this command needs {missing}, which is not installed: pip install 'newswire[server]'")


if __name__ == "__main__":
    main()
