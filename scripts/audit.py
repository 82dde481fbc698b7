"""Asks the advisory service of the package index whether known faults are in what newswire is built and tested with.

`make audit`. It looks at every version that constraints.txt names, by pip-audit. Exit code: 0 none is known, 1 some
are, 2 the service gave no answer about some of them, so nothing is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

PINS: Final = Path(__file__).parents[1] / "constraints.txt"


def main() -> int:
    """Print what is known of each package. Returns the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(PINS), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print((done.stderr.strip().splitlines() or ["it says nothing"])[-1], file=sys.stderr)
        packages = []
    known = [one for one in packages if "skip_reason" not in one]
    faults = 0
    for one in known:
        for fault in one["vulns"]:
            faults += 1
            print(
                f"{one['name']} {one['version']}: {fault['id']}, repaired in {', '.join(fault['fix_versions']) or '-'}"
            )
    print(f"{len(known)} of {len(_pins())} packages audited, {faults} known faults")
    if faults:
        return 1
    if len(known) < len(_pins()):
        print("NOT AUDITED: the advisory service can't be reached, or does not know these packages", file=sys.stderr)
        return 2
    return 0


def _pins() -> list[str]:
    return [line for line in PINS.read_text().splitlines() if "==" in line]


if __name__ == "__main__":
    sys.exit(main())
