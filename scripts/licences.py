"""Checks that what `pip install 'newswire[...]'` brings may be used with newswire: `scripts/licences.py [EXTRA...]`.

It reads the metadata of what is installed, and asks no server. Without arguments it looks at all extras that users
install. A package whose licence is not in the list, or that names none, is an error: somebody has to look at it.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NOT_FOR_USERS: Final = frozenset({"dev", "bench", "docs"})

# Permissive licences, and the two weak copyleft ones of files: https://spdx.org/licenses/
ALLOWED: Final = re.compile(
    r"MIT(-0)?|MIT License|The MIT License.*|BSD.*|[023]-Clause BSD.*|Apache.*|ISC.*|PSF.*|Python Software Foundation.*"
    r"|Unlicense|0BSD|CC0.*|MPL[ -]2\.0.*|Mozilla Public License 2\.0.*|Zlib|The Unlicense.*",
    re.IGNORECASE,
)


def needed(extras: Iterable[str]) -> Iterator[importlib.metadata.Distribution]:
    """The packages that some extras of newswire bring, as far as they are installed."""
    todo = [(canonicalize_name("newswire"), frozenset(extras))]
    seen = set(todo)
    while todo:
        name, wanted = todo.pop()
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            print(f"{name} is not installed, and not looked at")
            continue
        if name != "newswire":
            yield found
        for text in found.requires or ():
            one = Requirement(text)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                key = (canonicalize_name(one.name), frozenset(one.extras))
                if key not in seen:
                    seen.add(key)
                    todo.append(key)


def licences_of(found: importlib.metadata.Distribution) -> list[str]:
    """What a package says of its licence: the SPDX expression, else its classifiers, else the old field."""
    metadata = found.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return re.split(r" (?:AND|OR) ", expression.strip("()"))
    classifiers = [
        text.split(" :: ")[-1] for text in metadata.get_all("Classifier") or () if text.startswith("License")
    ]
    named = [text for text in classifiers if text != "OSI Approved"]
    return named or [line for line in (metadata.get("License") or "").splitlines() if line.strip()][:1]


def main() -> int:
    """Print each package with its licence. Returns 1 if one needs a look."""
    offered = importlib.metadata.metadata("newswire").get_all("Provides-Extra") or []
    extras = sys.argv[1:] or [extra for extra in offered if extra not in NOT_FOR_USERS]
    packages = {found.name: found for found in needed(extras)}
    bad = 0
    for name in sorted(packages, key=str.lower):
        licences = licences_of(packages[name])
        good = bool(licences) and all(ALLOWED.fullmatch(one.strip("() ")) for one in licences)
        bad += not good
        print(f"{'' if good else 'LOOK  '}{name} {packages[name].version}: {', '.join(licences) or 'names none'}")
    print(f"{len(packages)} packages, {bad} to look at")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
