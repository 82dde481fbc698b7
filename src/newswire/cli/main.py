"""The `newswire` command: what it has, and what it says when a part is not installed."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from newswire.cli.commands import newswire
    except ModuleNotFoundError as error:
        sys.exit(f"newswire: {error.name} is not installed: pip install 'newswire[server]'")
    newswire()


if __name__ == "__main__":
    main()
